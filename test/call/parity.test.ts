// Seed for seed the reference's videos: whole runs on the small checkpoint, against what the reference made of it.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { DPMSolverMultistepScheduler, type GenerateOptions, TextToVideoPipeline } from 'torchreel'
import { expected, expectedTensors, type PipelineCase, tinyCheckpoint } from '../support/fixtures.js'
import { assertSameAsReference } from '../support/reference_videos.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())

function optionsOf(run: PipelineCase): GenerateOptions {
  return {
    scheduler: run.scheduler,
    seed: run.seed,
    steps: run.num_inference_steps,
    frames: run.num_frames,
    height: run.height,
    width: run.width,
    returnLatents: true,
    ...(run.negative_prompt !== undefined && { negativePrompt: run.negative_prompt }),
    ...(run.guidance_scale !== undefined && { guidanceScale: run.guidance_scale }),
    ...(run.eta !== undefined && { eta: run.eta }),
    ...(run.clip_skip !== undefined && { clipSkip: run.clip_skip }),
  }
}

for (const run of expected.pipelines) {
  test(`${run.name}: latents within 1e-3 relative, frames at most 1 apart and 99.5% equal`, async () => {
    const prompts = [run.prompt].flat()
    const videos = await pipeline.generate(prompts, optionsOf(run))
    assert.equal(videos.length, prompts.length)
    assertSameAsReference(videos, expectedTensors, run.name)
  })
}

test('the default scheduler is DPMSolverMultistep made from the checkpoint’s config', async () => {
  assert.equal(pipeline.scheduler.name, 'DPMSolverMultistepScheduler')
  assert.equal(pipeline.scheduler.config.beta_schedule, 'scaled_linear')
  const options = { steps: 3, frames: 2, seed: 5 }
  const byDefault = await pipeline.generate('a boat', options)
  const config = pipeline.scheduler.config
  const given = await pipeline.generate('a boat', {
    ...options,
    scheduler: DPMSolverMultistepScheduler.fromConfig(config),
  })
  assert.deepEqual(byDefault.data, given.data)
})

test('scheduler: "checkpoint" keeps the checkpoint’s class', async () => {
  const options = { steps: 3, frames: 2, seed: 5 }
  const kept = await pipeline.generate('a boat', { ...options, scheduler: 'checkpoint' })
  const named = await pipeline.generate('a boat', { ...options, scheduler: 'ddim' })
  assert.equal(kept.scheduler, 'DDIMScheduler')
  assert.deepEqual(kept.data, named.data)
})

test('[seeds] a seed that was chosen for the caller gives the same video again', async () => {
  const first = await pipeline.generate('a boat', { steps: 2, frames: 2 })
  const again = await pipeline.generate('a boat', { steps: 2, frames: 2, seed: first.seed as number })
  const other = await pipeline.generate('a boat', { steps: 2, frames: 2, seed: (first.seed as number) + 1 })
  assert.deepEqual(first.data, again.data)
  assert.notDeepEqual(first.data, other.data)
})
