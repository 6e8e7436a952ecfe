// Calls of one pipeline start in the order in which they were made, however long each takes to get ready.
import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, test } from 'node:test'
import { type GenerateOptions, TextToVideoPipeline } from 'torchreel'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { standIn } from '../support/stand_in.js'
import { emptyFolders, real, stall, until, video } from '../support/video.js'

const prompt = 'a boat'
const small = { steps: 2, frames: 2, seed: 1, guidanceScale: 9 } as const satisfies GenerateOptions
const lora = `${repository}test/fixtures/adapters/peft.safetensors`
const words = `${repository}test/fixtures/adapters/words.safetensors`

const newFolders = emptyFolders()
let folder = ''
let tools = ''
beforeEach(() => {
  ;({ folder, tools } = newFolders())
})

test('[concurrent-calls] a video to read, a file to write, an adapter to load: nothing is overtaken', async () => {
  await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
  const begun: string[] = []
  const call = (name: string, options: GenerateOptions = {}) => {
    const onProgress = () => void (begun.includes(name) || begun.push(name))
    return pipeline.generate(prompt, { ...small, ...options, onProgress })
  }
  const there = join(folder, 'there.mp4')
  writeFileSync(there, '')
  const source = video(64, 64, 2)
  const [, , plain, failed, , adapted, word] = await Promise.allSettled([
    call('video', { video: source }),
    call('file', { output: join(folder, 'a.apng') }),
    call('plain'),
    call('failed', { output: there }),
    pipeline.loadLora(lora),
    call('adapted'),
    pipeline.loadTextualInversion(words),
    pipeline.encodePrompt('a <torch-reel>').then(() => begun.push('embeddings')),
    call('last', { video: source }),
  ])
  assert.deepEqual(begun, ['video', 'file', 'plain', 'adapted', 'embeddings', 'last'])
  assert.equal(failed.status === 'rejected' && failed.reason.code, 'ERR_OUTPUT_EXISTS')
  assert.equal(word.status === 'fulfilled' && word.value, '<torch-reel>')
  assert.ok(plain.status === 'fulfilled' && adapted.status === 'fulfilled')
  assert.deepEqual(adapted.value.data, (await pipeline.generate(prompt, small)).data)
  assert.deepEqual(adapted.value.settings?.loras, [{ file: 'peft.safetensors', scale: 1 }])
  await pipeline.unloadLora()
  await pipeline.unloadTextualInversion()
  assert.deepEqual(plain.value.data, (await pipeline.generate(prompt, small)).data)
  assert.equal(plain.value.settings?.loras, undefined)
})

test('[full-queue, aborted-in-queue, disposed-in-job] calls behind one that does not get ready count, can be aborted, and end with the pipeline', async () => {
  await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { limits: { queue: 3 } })
  const started = join(tools, 'started')
  const file = join(tools, 'source.mp4')
  writeFileSync(file, '')
  const stop = new AbortController()
  const first = pipeline.generate(prompt, {
    ...small,
    video: file,
    ffmpeg: standIn(tools, real, stall(started)),
  })
  const second = pipeline.generate(prompt, { ...small, signal: stop.signal })
  const third = assert.rejects(pipeline.generate(prompt, small), { code: 'ERR_DISPOSED' })
  const ended = assert.rejects(first, { code: 'ERR_DISPOSED' })
  await assert.rejects(pipeline.generate(prompt, small), { code: 'ERR_QUEUE_FULL' })
  await until(() => existsSync(started))
  stop.abort('enough')
  await assert.rejects(second, (reason) => reason === 'enough')
  const fourth = assert.rejects(pipeline.loadLora(lora), { code: 'ERR_DISPOSED' })
  await pipeline.dispose()
  await Promise.all([ended, third, fourth])
})
