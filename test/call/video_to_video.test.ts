// Videos made of videos: the reference's numbers, what a source may be, how it is resized, what is refused.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { type GenerateOptions, generate, type Progress, TextToVideoPipeline, Video } from 'torchreel'
import { type RgbImage, resizeImage } from '#dist/video/read/resize.js'
import { relativeError, tinyCheckpoint } from '../support/fixtures.js'
import { float32, uint8 } from '../support/safetensors_file.js'
import { readFixtures } from '../support/video_to_video.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
const folder = mkdtempSync(join(tmpdir(), 'torchreel-'))
after(async () => {
  rmSync(folder, { recursive: true })
  await pipeline.dispose()
})

const { prompt, runs, tensors } = readFixtures()
const [frameCount, height, width] = [3, 40, 64]
const source = new Video({ width, height, fps: 5, data: uint8(tensors, 'video') })
const images = Array.from(
  { length: frameCount },
  (_, i): RgbImage => ({ width, height, data: source.frame(i) }),
)
const quick = { steps: 2, seed: 5, returnLatents: true } as const satisfies GenerateOptions

function mostApart(actual: Uint8Array, wanted: Uint8Array): number {
  assert.equal(actual.length, wanted.length)
  return actual.reduce((most, value, i) => Math.max(most, Math.abs(value - (wanted[i] as number))), 0)
}

describe('the reference’s videos', () => {
  for (const { name, tileSize, ...options } of runs) {
    test(`${name}: latents within 1e-3 relative, frames at most 1 apart`, async () => {
      const vaeTiling = tileSize === undefined ? false : { tileSize }
      const video = await pipeline.generate(prompt, {
        ...{ ...options, video: source, vaeTiling, returnLatents: true },
        ...(options.scheduler === 'pndm' && { scheduler: 'pndm' }),
      })
      assert.ok(video.latents)
      const error = relativeError(video.latents.data, float32(tensors, `${name}.latents`))
      assert.ok(error < 1e-3, `latents are ${error} off`)
      assert.ok(mostApart(video.data, uint8(tensors, `${name}.frames`)) <= 1)
      assert.equal(video.strength, options.strength)
    })
  }
})

describe('a source', () => {
  test('may be a Video or frames: the same video, of the source’s size', async () => {
    const ofVideo = await pipeline.generate(prompt, { ...quick, video: source })
    const ofFrames = await pipeline.generate(prompt, { ...quick, video: images })
    assert.deepEqual(ofVideo.data, ofFrames.data)
    assert.deepEqual([ofVideo.width, ofVideo.height, ofVideo.frameCount], [width, height, frameCount])
    assert.deepEqual([ofVideo.fps, ofFrames.fps], [5, 8])
    assert.deepEqual(ofVideo.warnings, pipeline.warnings)
    assert.deepEqual([ofVideo.strength, ofVideo.guidanceScale], [0.6, 15])
  })

  test('may be a file, which gives its frames, its size and its rate', async () => {
    const file = join(folder, 'source.apng')
    await source.save(file)
    const ofFile = await pipeline.generate(prompt, { ...quick, video: file })
    const ofVideo = await pipeline.generate(prompt, { ...quick, video: source })
    assert.deepEqual(ofFile.data, ofVideo.data)
    assert.equal(ofFile.fps, 5)

    const mp4 = join(folder, 'source.mp4')
    await source.save(mp4)
    const first = await pipeline.generate(prompt, { ...quick, video: new URL(`file://${mp4}`), frames: 2 })
    assert.deepEqual([first.width, first.height, first.frameCount, first.fps], [width, height, 2, 5])
  })

  test('is read by the ffmpeg that is named', async () => {
    const file = join(folder, 'named.gif')
    await source.save(file)
    const options = { ...quick, video: file, ffmpeg: join(folder, 'no-ffmpeg') }
    await assert.rejects(pipeline.generate(prompt, options), { code: 'ERR_ENCODER_NOT_FOUND' })
  })

  test('is resized to the size that is given, and to multiples of the VAE’s scale', async () => {
    const larger = await pipeline.generate(prompt, { ...quick, video: source, width: 96, height: 56 })
    assert.deepEqual([larger.width, larger.height], [96, 56])
    assert.deepEqual(larger.warnings, pipeline.warnings)

    const odd = images.map((image) => resizeImage(image, 63, 41))
    const video = await pipeline.generate(prompt, { ...quick, video: odd })
    assert.deepEqual([video.width, video.height], [64, 40])
    assert.match(video.warnings.at(-1) ?? '', /resized from 63×41 to 64×40, multiples of 4/)
  })

  test('serves all prompts, each with its own seed', async () => {
    const seeds = [5, 6]
    const together = await pipeline.generate([prompt, 'a boat'], { ...quick, video: source, seed: seeds })
    for (const [i, text] of [prompt, 'a boat'].entries()) {
      const alone = await pipeline.generate(text, { ...quick, video: source, seed: seeds[i] as number })
      const error = relativeError(together[i]?.latents?.data ?? [], alone.latents?.data ?? [])
      assert.ok(error < 1e-4, `${error} off`)
    }
  })

  test('goes with windows, previews and a guidance scale for each step', async () => {
    const stages: Progress[] = []
    let previews = 0
    const options = {
      ...{ video: source, steps: 4, strength: 0.5, seed: 5, window: 2, previewEvery: 1 },
      ...{ guidanceScale: [1, 1, 9, 12], onPreview: () => void previews++ },
      onProgress: (progress: Progress) => void stages.push(progress),
    }
    await pipeline.generate(prompt, options)
    assert.equal(previews, 1)
    const last = (stage: string) => stages.findLast((progress) => progress.stage === stage)
    assert.deepEqual([last('encode')?.step, last('encode')?.steps], [1 + frameCount, 1 + frameCount])
    assert.equal(last('denoise')?.steps, 2)
  })

  test('a little strength keeps the video, much of it does not', async () => {
    const apart = async (strength: number) => {
      const video = await pipeline.generate(prompt, {
        ...{ ...quick, steps: 20, video: source, strength, guidanceScale: 1, scheduler: 'ddim' },
      })
      return relativeError(video.data, source.data)
    }
    assert.ok((await apart(0.05)) < (await apart(1)))
  })
})

describe('resizing is Pillow’s', () => {
  for (const [name, size] of [
    ['resized_up', { width: 96, height: 56 }],
    ['resized_down', { width: 24, height: 16 }],
  ] as const) {
    test(`${name}: values at most 1 apart`, () => {
      const resized = images.map((image) => resizeImage(image, size.width, size.height).data)
      assert.ok(mostApart(Buffer.concat(resized), uint8(tensors, name)) <= 1)
    })
  }

  test('an image in its own size stays as it is', () => {
    assert.deepEqual(resizeImage(images[0] as RgbImage, width, height).data, source.frame(0))
  })
})

describe('refused before anything heavy', () => {
  const noVideo = join(folder, 'no_video.mp4')
  writeFileSync(noVideo, 'no video')
  const latents = { data: new Float32Array(4), shape: [1, 4, 1, 1, 1] }
  for (const [parameter, options] of [
    ['video', { video: join(folder, 'missing.mp4') }],
    ['video', { video: noVideo }],
    ['video', { video: 7 }],
    ['video', { video: [] }],
    ['video[1]', { video: [images[0], { ...images[0], width: 32 }] }],
    ['video[0]', { video: [null] }],
    ['strength', { strength: 0.5 }],
    ['strength', { video: source, strength: 0 }],
    ['strength', { video: source, steps: 3, strength: 0.3 }],
    ['strength', { video: source, strength: 1.5 }],
    ['latents', { video: source, latents }],
    ['frames', { video: source, frames: 4 }],
    ['width', { video: source, width: 33 }],
    ['timesteps', { steps: 3, timesteps: [900, 500] }],
    ['sigmas', { scheduler: 'ddim', sigmas: [9, 1, 0] }],
  ] as const) {
    test(`${parameter} of ${Object.keys(options)}`, async () => {
      const seen: Progress[] = []
      const call = { ...options, onProgress: (progress: Progress) => void seen.push(progress) }
      await assert.rejects(pipeline.generate(prompt, call as unknown as GenerateOptions), {
        ...{ code: 'ERR_INVALID_ARGUMENT', parameter },
      })
      assert.deepEqual(seen, [])
    })
  }

  test('a strength that leaves no step is refused before a model is loaded', async () => {
    for (const call of [
      { strength: 0 },
      { strength: 0.3, steps: 3 },
      { strength: 0.2, timesteps: [900, 500] },
    ]) {
      const options = { ...call, video: source, model: join(folder, 'no-model') }
      await assert.rejects(generate('a', options), { code: 'ERR_INVALID_ARGUMENT', parameter: 'strength' })
    }
  })

  test('more pixels than the limit', async () => {
    const options = { ...quick, video: source, width: 16384, height: 16384 }
    await assert.rejects(pipeline.generate(prompt, options), { code: 'ERR_LIMIT_EXCEEDED' })
  })

  test('an aborted call', async () => {
    const signal = AbortSignal.abort(new Error('enough'))
    const options = { ...quick, video: source, signal }
    await assert.rejects(pipeline.generate(prompt, options), /enough/)
  })
})

test('timesteps and sigmas say how many steps there are', async () => {
  const aligned = await pipeline.generate(prompt, { frames: 2, seed: 1, timesteps: [999, 700, 300] })
  assert.equal(aligned.steps, 3)
  const sigmas = [14, 5, 1, 0]
  const euler = await pipeline.generate(prompt, { frames: 2, seed: 1, scheduler: 'euler', sigmas })
  assert.equal(euler.steps, 3)
})
