// The runner with the model shapes, in this process.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { Video } from 'torchreel'
import { FolderFiles } from '#server/files/folder.js'
import type { Job, RequestOptions } from '#server/jobs/job.js'
import { JobFailed, type RunningJob } from '#server/jobs/jobs.js'
import { loadRunner } from '#server/work/run_job.js'
import { newFolder } from '../support/acting_server.js'
import { newJob } from './contract.js'

const folder = newFolder()
const files = new FolderFiles(path.join(folder, 'jobs'))
const workFolder = path.join(folder, 'work')
const options = {
  models: [{ id: 'shapes', model: 'shapes' }],
  device: 'cpu',
  pipeline: { limits: { pixels: 200_000 } },
  ...{ files, workFolder },
}
const runner = await loadRunner(options)
after(() => rmSync(folder, { recursive: true }))

function jobOf(set: object, more: Partial<Job['request']> = {}): Job {
  const { request, ...rest } = newJob('a big red circle moving left')
  const given = { seed: 7, steps: 2, frames: 4, ...set } as RequestOptions
  return {
    ...rest,
    request: { ...request, options: given, ...more },
    state: 'running',
    attempt: 1,
    createdAt: 0,
    previews: 0,
  }
}

function listen(signal = new AbortController().signal) {
  const told: { stages: Set<string>; previews: number } = { stages: new Set(), previews: 0 }
  const on: RunningJob = {
    signal,
    progress: ({ stage }) => void told.stages.add(stage),
    preview: () => {
      told.previews++
    },
  }
  return { told, on }
}

const isFailure = (code: string) => (error: unknown) => error instanceof JobFailed && error.code === code

test('a job makes its video, pictures and result, and tells its progress', async () => {
  const job = jobOf({})
  const { told, on } = listen()
  const made = await runner.run(job, on)
  assert.deepEqual([...told.stages], ['encode', 'denoise', 'decode'])
  assert.equal(told.previews, 1)
  assert.deepEqual([made.frames, made.width, made.height, made.fps, made.steps], [4, 64, 64, 8, 2])
  const names = readdirSync(path.join(folder, 'jobs', job.id)).sort()
  assert.deepEqual(names, ['preview.png', 'result.json', 'spritesheet.png', 'thumbnail.png', 'video.mp4'])
  const read = (name: string) => readFileSync(path.join(folder, 'jobs', job.id, name))
  assert.deepEqual(JSON.parse(read('result.json').toString()), made)
  assert.equal(read('video.mp4').length, made.bytes)
  // Width and height of the pictures, from their headers: a frame, and two by two of them.
  assert.deepEqual(
    [read('thumbnail.png').readUInt32BE(16), read('spritesheet.png').readUInt32BE(16)],
    [64, 128],
  )
  assert.ok(read('preview.png').includes('acTL'), 'the preview is animated')
  assert.deepEqual(readdirSync(workFolder), [])
})

test('an aborted job leaves no file', async () => {
  const abort = new AbortController()
  const { on } = listen(abort.signal)
  const job = jobOf({ steps: 50, frames: 16 })
  const running = runner.run(job, { ...on, progress: () => abort.abort(new Error('enough')) })
  await assert.rejects(running, /enough/)
  assert.deepEqual(readdirSync(workFolder), [])
  assert.equal(await files.facts(job.id, 'video.mp4'), undefined)
})

test('after a failure nothing more is written', async () => {
  const abort = new AbortController()
  let writing = 0
  const slow = new (class extends FolderFiles {
    override async put(...what: Parameters<FolderFiles['put']>): Promise<void> {
      writing++
      abort.abort(new Error('enough'))
      await wait(300)
      await super.put(...what)
      writing--
    }
  })(path.join(folder, 'jobs'))
  const other = await loadRunner({ ...options, files: slow })
  await assert.rejects(other.run(jobOf({ steps: 200 }), listen(abort.signal).on), /enough/)
  assert.ok(abort.signal.aborted)
  assert.equal(writing, 0)
})

test('a video to start from is read from the files of the job', async () => {
  const source = new Video({ width: 64, height: 64, fps: 8, data: new Uint8Array(4 * 64 * 64 * 3).fill(120) })
  const job = jobOf({ strength: 0.5, frames: undefined }, { hasInput: true })
  await files.put(job.id, 'input', await source.toBuffer('mp4'))
  const made = await runner.run(job, listen().on)
  assert.deepEqual([made.frames, made.strength], [4, 0.5])
  await assert.rejects(
    async () => runner.run(jobOf({}, { hasInput: true }), listen().on),
    isFailure('input_lost'),
  )
})

test('threat 14: a video to start from that is longer or larger than is allowed fails', async () => {
  const source = new Video({ width: 64, height: 64, fps: 8, data: new Uint8Array(64 * 64 * 64 * 3) })
  const job = jobOf({ strength: 0.5, frames: undefined }, { hasInput: true })
  await files.put(job.id, 'input', await source.toBuffer('mp4'))
  await assert.rejects(async () => runner.run(job, listen().on), isFailure('ERR_LIMIT_EXCEEDED'))
})

test('threat 13: a playlist that got so far is not read', async () => {
  const job = jobOf({ strength: 0.5, frames: undefined }, { hasInput: true })
  await files.put(
    job.id,
    'input',
    Buffer.from(`ffconcat version 1.0\nfile ${path.join(folder, 'secret.mp4')}\n`),
  )
  await assert.rejects(async () => runner.run(job, listen().on), JobFailed)
})

test('threat 20: options that no request can set are not taken from the queue either, and the others are checked again', async () => {
  const output = path.join(folder, 'evil.mp4')
  await runner.run(jobOf({ output, ffmpeg: '/bin/false', onProgress: 'x', latents: {} }), listen().on)
  assert.ok(!existsSync(output))
  await assert.rejects(
    async () => runner.run(jobOf({ steps: 1e9 }), listen().on),
    isFailure('ERR_INVALID_ARGUMENT'),
  )
  await assert.rejects(
    async () => runner.run(jobOf({}, { loras: [{ name: '../evil', scale: 1 }] }), listen().on),
    isFailure('lora_not_found'),
  )
  await assert.rejects(
    async () => runner.run(jobOf({}, { model: 'other' }), listen().on),
    isFailure('model_not_found'),
  )
  await assert.rejects(files.put('../../evil', 'input', Buffer.from('')), /is not the id of a job/)
})
