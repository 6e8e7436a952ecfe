// Wan, seed for seed the reference's videos: whole runs on a small checkpoint, against what the reference made of it.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { DPMSolverMultistepScheduler, TextToVideoPipeline } from 'torchreel'
import { relativeError, repository } from '../support/fixtures.js'
import { assertEqualFrames, assertSameAsReference } from '../support/reference_videos.js'
import { float32, readSafetensors, uint8 } from '../support/safetensors_file.js'
import { optionsOf, sourceFramesOf, type WanRun } from '../support/wan_runs.js'

const folder = `${repository}test/fixtures/wan/`
interface Expected {
  tokens: { text: string; ids: number[] }[]
  pipelines: WanRun[]
}
const { tokens, pipelines } = JSON.parse(readFileSync(`${folder}expected.json`, 'utf8')) as Expected
const more = JSON.parse(readFileSync(`${folder}more.json`, 'utf8')) as Omit<Expected, 'tokens'>
const tensors = new Map(
  ['expected', 'more'].flatMap((name) => [...readSafetensors(`${folder}${name}.safetensors`)]),
)

const sourceFrames = sourceFramesOf(tensors)

const pipeline = await TextToVideoPipeline.fromPretrained(`${folder}checkpoint`)
after(() => pipeline.dispose())

describe('prompts', () => {
  for (const index of [0, 1, 7]) {
    test(`${JSON.stringify(tokens[index]?.text)}: embeddings within 1e-4 relative, zeros after the tokens`, async () => {
      const { text, ids } = tokens[index] as (typeof tokens)[number]
      const { data, shape } = await pipeline.encodePrompt(text)
      assert.deepEqual(shape, [1, 512, 32])
      const error = relativeError(data.subarray(0, 40 * 32), float32(tensors, `text.${index}`))
      assert.ok(error < 1e-4, `embeddings are ${error} off`)
      assert.ok(data.subarray(ids.length * 32).every((value) => value === 0))
    })
  }

  test('several prompts at once have the embeddings that each has alone', async () => {
    const texts = [tokens[0]?.text as string, tokens[7]?.text as string]
    const together = await pipeline.encodePrompt(texts)
    for (const [index, text] of texts.entries()) {
      const alone = await pipeline.encodePrompt(text)
      const row = together.data.subarray(index * alone.data.length, (index + 1) * alone.data.length)
      assert.ok(relativeError(row, alone.data) < 1e-6)
    }
  })
})

for (const run of [...pipelines, ...more.pipelines]) {
  test(`${run.name}: latents within 1e-3 relative, frames at most 1 apart and 99.5% equal`, async () => {
    const prompts = [run.prompt].flat()
    const videos = await pipeline.generate(prompts, optionsOf(pipeline, run, tensors))
    assert.equal(videos.length, prompts.length)
    assertSameAsReference(videos, tensors, run.name)
  })
}

describe('what a call is made of', () => {
  const run = pipelines[0] as WanRun

  test('the default scheduler is the checkpoint’s own', () => {
    assert.equal(pipeline.scheduler.name, 'UniPCMultistepScheduler')
    assert.equal(pipeline.scheduler.config.flow_shift, 3)
    assert.equal(pipeline.scheduler.config.use_flow_sigmas, true)
  })

  test('the well-known tutorial’s program: another scheduler, model offload, 25 steps, a file', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'torchreel-wan-'))
    try {
      await using tutorial = await TextToVideoPipeline.fromPretrained(`${folder}checkpoint`, {
        offload: 'model',
      })
      tutorial.scheduler = DPMSolverMultistepScheduler.fromConfig(tutorial.scheduler.config)
      const size = { frames: 5, width: 48, height: 32 } // the model is small
      let calls = 0
      const video = await tutorial.generate('Spiderman is surfing', {
        ...{ steps: 25, ...size },
        onProgress: ({ stage, step }) => {
          if (stage === 'denoise') calls = step
        },
      })
      const file = join(scratch, 'surfing.mp4')
      await video.save(file)
      assert.equal(tutorial.scheduler.name, 'DPMSolverMultistepScheduler')
      assert.deepEqual([calls, video.frameCount, video.fps], [25, 5, 16])
      assert.ok(readFileSync(file).subarray(4, 8).equals(Buffer.from('ftyp')))
    } finally {
      rmSync(scratch, { recursive: true })
    }
  })

  test('embeddings in place of prompts give the same video', async () => {
    const promptEmbeds = await pipeline.encodePrompt(run.prompt)
    const negativePromptEmbeds = await pipeline.encodePrompt('')
    const given = await pipeline.generate(undefined, {
      ...optionsOf(pipeline, run, tensors),
      promptEmbeds,
      negativePromptEmbeds,
    })
    assertEqualFrames(given, uint8(tensors, `pipeline.${run.name}.frames`))
  })

  test('two videos of prompts of other lengths are those of two calls', async () => {
    const options = { steps: 2, frames: 5, height: 32, width: 32, returnLatents: true }
    const prompts = ['a panda', 'a boat on the sea at night, and many more words']
    const together = await pipeline.generate(prompts, { ...options, seed: [1, 2] })
    for (const [index, prompt] of prompts.entries()) {
      const alone = await pipeline.generate(prompt, { ...options, seed: index + 1 })
      const latents = together[index]?.latents?.data as Float32Array
      assert.ok(relativeError(latents, alone.latents?.data as Float32Array) < 1e-5)
    }
  })

  test('a video of one tile is the video in one piece, one of several tiles is close to it', async () => {
    const options = { steps: 2, frames: 9, height: 48, width: 64, seed: 3 }
    const whole = await pipeline.generate('a panda', options)
    const one = await pipeline.generate('a panda', { ...options, vaeTiling: { tileSize: 64 } })
    assert.deepEqual(one.data, whole.data)
    const tiled = await pipeline.generate('a panda', { ...options, vaeTiling: { tileSize: 32 } })
    assert.equal(tiled.data.length, whole.data.length)
    assert.notDeepEqual(tiled.data, whole.data)
  })

  test('a source that is encoded in one tile is encoded in one piece, in several tiles close to it', async () => {
    const options = { steps: 2, strength: 0.5, video: sourceFrames, seed: 3, returnLatents: true }
    const latents = async (tileSize?: number) => {
      const vaeTiling = tileSize !== undefined && { vaeTiling: { tileSize } }
      const video = await pipeline.generate('a panda', { ...options, ...vaeTiling })
      return video.latents?.data as Float32Array
    }
    const whole = await latents()
    assert.deepEqual(await latents(64), whole)
    const tiled = await latents(32)
    assert.notDeepEqual(tiled, whole)
    assert.ok(relativeError(tiled, whole) < 0.5)
  })
})
