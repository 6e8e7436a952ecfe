// What a video says of itself suffices to make it again.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import {
  EulerDiscreteScheduler,
  type GenerateOptions,
  schedulerFrom,
  TextToVideoPipeline,
  type Video,
  type VideoFacts,
} from 'torchreel'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-repeat-'))
const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(async () => {
  await pipeline.dispose()
  rmSync(folder, { recursive: true })
})
const adapters = `${repository}test/fixtures/adapters/`

/** The comment of an animated PNG of the video: the last text of its iTXt chunk. */
async function commentOf(video: Video): Promise<VideoFacts> {
  const file = await video.save(path.join(folder, 'video.apng'), { overwrite: true })
  const png = readFileSync(file)
  const start = png.indexOf('iTXt')
  const text = png.subarray(start + 4, start + 4 + png.readUInt32BE(start - 4)).toString('utf8')
  return JSON.parse(text.slice(text.lastIndexOf('\0') + 1)) as VideoFacts
}

/** The options that a comment names. */
function optionsOf({ seed, steps, guidanceScale, negativePrompt, scheduler, settings }: VideoFacts) {
  const { schedulerConfig = {}, loras, textualInversions, inputs, batch, ...more } = settings ?? {}
  const made = schedulerFrom(scheduler as string, schedulerConfig)
  return { ...more, seed, steps, guidanceScale, negativePrompt, scheduler: made } as GenerateOptions
}

test('from the comment alone: sizes, scheduler, windows, tiles, factors and adapters', async () => {
  const lora = await pipeline.loadLora(`${adapters}kohya.safetensors`, { scale: 0.5 })
  const word = await pipeline.loadTextualInversion(`${adapters}glimmerfall.safetensors`)
  const wanted = await pipeline.generate(`a ${word}`, {
    ...{ steps: 4, frames: 6, width: 48, height: 40, negativePrompt: 'blurry', clipSkip: 1, eta: 0.3 },
    ...{ guidanceScale: [9, 1, 5, 2], seed: 3, window: { frames: 4, overlap: 1 } },
    ...{ freeU: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 }, vaeTiling: { tileSize: 36, overlap: 0.3 } },
    scheduler: schedulerFrom('ddim', {
      beta_schedule: 'scaled_linear',
      clip_sample: false,
      thresholding: true,
    }),
  })
  await pipeline.unloadLora()
  await pipeline.unloadTextualInversion()

  const comment = await commentOf(wanted)
  assert.deepEqual(comment.settings, wanted.settings)
  assert.deepEqual(comment.settings?.loras, [{ file: 'kohya.safetensors', scale: 0.5 }])
  assert.deepEqual(comment.settings?.textualInversions, [{ file: 'glimmerfall.safetensors', token: word }])
  for (const { file, ...more } of comment.settings?.loras ?? [])
    await pipeline.loadLora(adapters + file, more)
  for (const { file, ...more } of comment.settings?.textualInversions ?? [])
    await pipeline.loadTextualInversion(adapters + file, more)
  const again = await pipeline.generate(comment.prompt as string, optionsOf(comment))
  assert.deepEqual(again.data, wanted.data)
  assert.equal(lora, 'kohya')
  await pipeline.unloadLora()
  await pipeline.unloadTextualInversion()
})

test('own timesteps, and a config that JSON has no word for', async () => {
  const scheduler = schedulerFrom('dpmsolver-multistep', { lambda_min_clipped: -Infinity, solver_order: 3 })
  const wanted = await pipeline.generate('a boat', {
    ...{ frames: 2, seed: 5, scheduler, timesteps: [999, 700, 300, 20] },
  })
  const comment = await commentOf(wanted)
  assert.deepEqual(comment.settings?.schedulerConfig, { solver_order: 3 })
  assert.deepEqual((await pipeline.generate('a boat', optionsOf(comment))).data, wanted.data)
})

test('the second video of a seed that several share says which of how many it is', async () => {
  const options = { steps: 3, frames: 2, seed: 8, scheduler: 'euler-ancestral' }
  const second = (await pipeline.generate(['a boat', 'a panda'], options))[1] as Video
  assert.deepEqual(second.settings?.batch, { videos: 2, index: 1 })
  const comment = await commentOf(second)
  const { videos, index } = comment.settings?.batch ?? { videos: 0, index: 0 }
  const prompts = new Array<string>(videos).fill('')
  prompts[index] = comment.prompt as string
  const again = await pipeline.generate(prompts, { ...optionsOf(comment), negativePrompt: '' })
  assert.deepEqual(again[index]?.data, second.data)

  const own = await pipeline.generate(['a boat', 'a panda'], { ...options, seed: [8, 9] })
  assert.deepEqual(
    own.map(({ seed, settings }) => [seed, settings?.batch]),
    [
      [8, undefined],
      [9, undefined],
    ],
  )
})

test('what stands in no comment is named: videos, latents and embeddings that were given', async () => {
  const source = await pipeline.generate('a boat', { steps: 1, frames: 2, seed: 1, returnLatents: true })
  assert.equal(source.settings?.inputs, undefined)
  const changed = await pipeline.generate('a panda', { steps: 2, video: source, seed: 1 })
  assert.deepEqual(changed.settings?.inputs, ['video'])
  assert.deepEqual([changed.settings?.frames, changed.settings?.width], [2, 32])
  const promptEmbeds = await pipeline.encodePrompt('a boat')
  const [latents] = [source.latents]
  const [embedded] = await pipeline.generate(undefined, {
    ...{ steps: 1, frames: 2, promptEmbeds, latents, guidanceScale: 1 },
  })
  assert.deepEqual(embedded?.settings?.inputs, ['latents', 'promptEmbeds'])
})

test('a LoRA that waits for its turn is told of the calls after it only', async () => {
  const options = { steps: 1, frames: 1, seed: 1 }
  const before = pipeline.generate('a', options)
  const loaded = pipeline.loadLora(`${adapters}peft.safetensors`)
  await loaded
  const afterwards = pipeline.generate('a', options)
  assert.equal((await before).settings?.loras, undefined)
  assert.deepEqual((await afterwards).settings?.loras, [{ file: 'peft.safetensors', scale: 1 }])
  await pipeline.setAdapters([])
  assert.equal((await pipeline.generate('a', options)).settings?.loras, undefined)
  await pipeline.unloadLora()
})

test('only what was written of a scheduler’s config is told', async () => {
  pipeline.scheduler = EulerDiscreteScheduler.fromConfig({ beta_start: 0.001 }, { use_karras_sigmas: true })
  const video = await pipeline.generate('a', { steps: 1, frames: 1, seed: 1 })
  assert.deepEqual(video.settings?.schedulerConfig, { beta_start: 0.001, use_karras_sigmas: true })
})
