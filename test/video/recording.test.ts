// `generate` with `output`: writes the file while the video is decoded.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { type GenerateOptions, generate, type Output, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'
import { standIn } from '../support/stand_in.js'
import { emptyFolders, isGone, real, stall, until } from '../support/video.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())
const prompt = 'a red circle moving left'
const options = { steps: 2, frames: 5, seed: 3 } as const

const newFolders = emptyFolders()
let folder = ''
let tools = ''
beforeEach(() => {
  ;({ folder, tools } = newFolders())
})

const bytesOf = (file: string) => readFileSync(file).toString('base64')

for (const name of ['a.mp4', 'a.webm', 'a.gif', 'a.webp', 'a.apng', 'a.rgb', 'frames/']) {
  test(`${name}: the bytes that save writes, comment and sidecar included`, async () => {
    const how = { sidecar: true, overwrite: false }
    const video = await pipeline.generate(prompt, {
      ...options,
      output: { path: join(folder, name), ...how },
    })
    const again = newFolders().folder
    const saved = await video.save(join(again, name), how)
    assert.equal(video.file, join(folder, saved.slice(again.length + 1)))
    const files = readdirSync(again, { recursive: true }) as string[]
    assert.deepEqual(readdirSync(folder, { recursive: true }), files)
    for (const file of files.filter((file) => file.includes('.')))
      assert.equal(bytesOf(join(folder, file)), bytesOf(join(again, file)), file)
  })
}

test('it is the same video with a file and without; a URL is a path, too', async () => {
  const path = join(folder, 'a.apng')
  const written = await pipeline.generate(prompt, { ...options, output: pathToFileURL(path) })
  const plain = await pipeline.generate(prompt, options)
  assert.deepEqual(written.data, plain.data)
  assert.deepEqual([written.file, plain.file, written.contactSheet().file], [path, undefined, undefined])
})

test('the encoder runs before the first frame is there, and gets frames before the last', async () => {
  const started = join(tools, 'started')
  const fed = join(tools, 'fed')
  const ffmpeg = standIn(
    tools,
    real,
    `fs.writeFileSync(${JSON.stringify(started)}, '')
const chunk = Buffer.alloc(1)
fs.readSync(0, chunk)
fs.writeFileSync(${JSON.stringify(fed)}, '')
fs.writeFileSync(output, 'not a video')
process.stdin.resume()`,
  )
  const seen: number[] = []
  // Otherwise this would wait for ever.
  const onProgress: GenerateOptions['onProgress'] = async ({ stage, step }) => {
    if (stage !== 'decode') return
    if (step === 0) await until(() => existsSync(started))
    if (step === 3) await until(() => existsSync(fed))
    seen.push(step)
  }
  const output = join(folder, 'a.mp4')
  await assert.rejects(pipeline.generate(prompt, { ...options, ffmpeg, output, onProgress }), {
    code: 'ERR_OUTPUT_WRITE', // the fake ffmpeg's file has no frames
  })
  assert.deepEqual(seen, [0, 1, 2, 3, 4, 5])
  assert.deepEqual(readdirSync(folder), [])
})

test('frames as they are decoded come beside the file', async () => {
  const path = join(folder, 'a.apng')
  let count = 0
  for await (const _ of pipeline.generateFrames(prompt, { ...options, output: path })) count++
  assert.equal(count, 5)
  const video = await pipeline.generate(prompt, options)
  assert.equal(bytesOf(path), bytesOf(await video.save(join(folder, 'b.apng'))))
})

test('[no-ffmpeg, output-exists, output-names] what keeps save from its file fails before the job begins', async () => {
  const there = join(folder, 'there.mp4')
  writeFileSync(there, 'mine')
  const output = join(folder, 'a.mp4')
  const cases: [string, string | Output, GenerateOptions?][] = [
    ['ERR_OUTPUT_EXISTS', there],
    ['ERR_OUTPUT_WRITE', join(folder, 'missing', 'a.mp4')],
    ['ERR_ENCODER_NOT_FOUND', output, { ffmpeg: join(folder, 'no-ffmpeg') }],
    ['ERR_INVALID_ARGUMENT', 'a.avi'],
    ['ERR_INVALID_ARGUMENT', { path: output, quality: 50 }],
    ['ERR_INVALID_ARGUMENT', { path: join(folder, 'a.gif'), crf: 20 }],
    ['ERR_INVALID_ARGUMENT', join(folder, 'one.png')],
    ['ERR_INVALID_ARGUMENT', join(folder, 'a.gif'), { fps: 60 }],
  ]
  for (const [code, output, more] of cases) {
    const told: unknown[] = []
    const call = { ...options, ...more, output, onProgress: (progress: unknown) => void told.push(progress) }
    await assert.rejects(pipeline.generate(prompt, call), { code }, JSON.stringify(output))
    await assert.rejects(generate(prompt, { ...call, model: join(folder, 'no-model') }), { code })
    assert.deepEqual(told, [])
  }
  assert.deepEqual(readdirSync(folder), ['there.mp4'])
  assert.equal(readFileSync(there, 'latin1'), 'mine')
})

test('what is no output is refused by its name', async () => {
  const path = join(folder, 'a.mp4')
  for (const [parameter, output, prompts] of [
    ['output', 5, prompt],
    ['output', null, prompt],
    ['path', {}, prompt],
    ['path', '', prompt],
    ['output.overwite', { path, overwite: true }, prompt],
    ['output.signal', { path, signal: AbortSignal.abort() }, prompt],
    ['output.overwrite', { path, overwrite: 1 }, prompt],
    ['output', path, ['a', 'b']],
  ] as const) {
    await assert.rejects(
      pipeline.generate(prompts as string, { ...options, output: output as unknown as string }),
      { code: 'ERR_INVALID_ARGUMENT', parameter },
    )
  }
  await assert.rejects(
    pipeline.generate(prompt, {
      ...options,
      output: { path, overwite: true } as unknown as { path: string },
    }),
    /there is no option output\.overwite; did you mean "overwrite"\?/,
  )
  const [video] = await pipeline.generate([prompt], { ...options, output: path })
  assert.equal(video?.file, path)
})

const reason = new Error('enough')
for (const [what, end, expected] of [
  ['an abort', ({ stop }) => stop.abort(reason), { message: 'enough' }],
  ['an error of the caller', () => Promise.reject(reason), { message: 'enough' }],
  ['dispose', ({ pipeline }) => void pipeline.dispose(), { code: 'ERR_DISPOSED' }],
] as [string, (of: { stop: AbortController; pipeline: TextToVideoPipeline }) => unknown, object][]) {
  for (const name of ['a.mp4', '%d.png']) {
    test(`[kill-signals, killed-while-saving] ${what} while frames are decoded: no ${name}, no ffmpeg`, async () => {
      await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
      const stop = new AbortController()
      const started = join(tools, 'started')
      const call = pipeline.generate(prompt, {
        ...{ ...options, frames: 60, width: 96, height: 96 },
        ...{ output: join(folder, name), signal: stop.signal },
        ffmpeg: standIn(tools, real, stall(started)),
        onProgress: async ({ stage, step }) => {
          if (stage !== 'decode' || step !== 2) return
          if (name === 'a.mp4') await until(() => existsSync(started) && readFileSync(started).length > 0)
          await end({ stop, pipeline })
        },
      })
      await assert.rejects(call, expected)
      if (name === 'a.mp4') await until(() => isGone(Number(readFileSync(started, 'latin1'))))
      assert.deepEqual(readdirSync(folder), [])
    })
  }
}

test('[disposed-in-job] dispose() when all is decoded and ffmpeg does not end, or when ffmpeg does not give a video to start from', async () => {
  const output = join(folder, 'a.mp4')
  for (const more of [{ output }, { video: join(tools, 'source.mp4'), steps: 4 }]) {
    await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const started = join(tools, 'started')
    rmSync(started, { force: true })
    writeFileSync(join(tools, 'source.mp4'), '')
    const call = pipeline.generate(prompt, {
      ...{ ...options, ...more },
      ffmpeg: standIn(tools, real, stall(started)),
    })
    const ended = assert.rejects(call, { code: 'ERR_DISPOSED' })
    await until(() => existsSync(started) && readFileSync(started).length > 0)
    if ('output' in more) await pipeline.encodePrompt('after the job')
    await pipeline.dispose()
    await ended
    await until(() => isGone(Number(readFileSync(started, 'latin1'))))
    assert.deepEqual(readdirSync(folder), [])
  }
})

test('[ffmpeg-leaves] an encoder that fails meanwhile ends the job with its own error; nothing stays', async () => {
  const ffmpeg = standIn(tools, real, `fs.writeFileSync(output, 'half'); process.exit(1)`)
  const output = join(folder, 'a.mp4')
  await assert.rejects(pipeline.generate(prompt, { ...options, ffmpeg, output }), {
    code: 'ERR_ENCODER_FAILED',
  })
  assert.deepEqual(readdirSync(folder), [])
  const next = await pipeline.generate(prompt, { ...options, output })
  assert.equal(basename(next.file as string), 'a.mp4')
})
