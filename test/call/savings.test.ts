// Savings that change the video: what they leave as it was, to the bit, and how near the rest stays.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type GenerateOptions, schedulerFrom, type Tensor, TextToVideoPipeline, type Video } from 'torchreel'
import { relativeError, repository, tinyCheckpoint } from '../support/fixtures.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
const shapes = await TextToVideoPipeline.fromPretrained(`${repository}models/shapes`)
after(() => Promise.all([pipeline.dispose(), shapes.dispose()]))
const prompt = 'a red circle moving left'
const options = { steps: 4, frames: 4, seed: 3, returnLatents: true } as const
const make = (more: GenerateOptions) => pipeline.generate(prompt, { ...options, ...more })
const distance = (one: Video, other: Video) =>
  relativeError((one.latents as Tensor).data, (other.latents as Tensor).data)
const same = (one: Video, other: Video, message?: string) => {
  assert.deepEqual(one.latents, other.latents, message)
  assert.deepEqual(one.data, other.data, message)
}

test('featureCache 1 computes everything; the first call always does', async () => {
  same(await make({ featureCache: 1 }), await make({}))
  same(await make({ steps: 1, featureCache: 1000 }), await make({ steps: 1 }))
})

test('a call with guidance uses nothing of one without, nor the other way', async () => {
  const guidanceScale = [9, 1, 9, 1]
  same(await make({ guidanceScale, featureCache: 1000 }), await make({ guidanceScale }))
})

test('featureCache changes the video the more, the fewer calls compute everything', async () => {
  const call = { steps: 12, frames: 8, seed: 1, returnLatents: true }
  const exact = await shapes.generate('a big red circle moving left', call)
  const distances: number[] = []
  for (const featureCache of [2, 3, 12]) {
    const video = await shapes.generate('a big red circle moving left', { ...call, featureCache })
    assert.equal(video.settings?.featureCache, featureCache)
    distances.push(distance(video, exact))
  }
  const [two = 0, three = 0, all = 0] = distances
  assert.ok(two > 1e-4 && two < three && three < all, String(distances))
  assert.ok(two < 0.3, String(distances))
})

test('whether a call computes everything is counted in calls, also of a scheduler that calls twice a step', async () => {
  // Heun calls twice in each step but the last; of three calls the first is all, the others are not.
  const heun = { scheduler: 'heun', steps: 2 } as const
  const exact = await make(heun)
  const [two, three, many] = [
    await make({ ...heun, featureCache: 2 }),
    await make({ ...heun, featureCache: 3 }),
    await make({ ...heun, featureCache: 1000 }),
  ]
  same(three, many)
  assert.ok(distance(two, exact) > 0 && distance(three, two) > 0)
})

test('each window has a cache of its own', async () => {
  const scheduler = schedulerFrom('ddim', {})
  const { latents } = await make({ steps: 1, frames: 8 })
  const { data, shape } = latents as Tensor
  const [channels = 0, frames = 0, height = 0, width = 0] = shape.slice(1)
  const plane = height * width
  const half = (first: number): Tensor => {
    const parts = Array.from({ length: channels }, (_, channel) => {
      const start = (channel * frames + first) * plane
      return Array.from(data.subarray(start, start + 4 * plane))
    })
    return { data: Float32Array.from(parts.flat()), shape: [1, channels, 4, height, width] }
  }
  const call = { scheduler, featureCache: 3, frames: 4 }
  const whole = await make({ ...call, frames: 8, latents, window: { frames: 4, overlap: 0 } })
  const length = whole.data.length / 2
  for (const [index, first] of [0, 4].entries()) {
    const alone = await make({ ...call, latents: half(first) })
    assert.deepEqual(alone.data, whole.data.subarray(index * length, (index + 1) * length))
  }
  const blended = { frames: 8, window: { frames: 4, overlap: 2 } }
  assert.ok(distance(await make({ ...blended, featureCache: 2 }), await make(blended)) > 0)
})

test('a batch is its videos, each as it is alone', async () => {
  const call = { ...options, featureCache: 2, guidanceInterval: [0, 0.6] as const }
  const together = await pipeline.generate([prompt, 'a boat'], { ...call, seed: [3, 4] })
  const alone = [await make(call), await pipeline.generate('a boat', { ...call, seed: 4 })]
  for (const [index, video] of together.entries()) {
    assert.ok(distance(video, alone[index] as Video) < 1e-4)
  }
})

test('offload gives the same video, and factors of FreeU work beside', async () => {
  const more = { featureCache: 3, freeU: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 } }
  await using other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { offload: 'sequential' })
  const video = await make(more)
  same(await other.generate(prompt, { ...options, ...more }), video)
  assert.ok(distance(await make({ featureCache: 3 }), video) > 0)
})

test('an interval of all steps is none; an empty one is guidanceScale 1', async () => {
  same(await make({ guidanceInterval: [0, 1] }), await make({}))
  same(await make({ guidanceInterval: [0.4, 0.4] }), await make({ guidanceScale: 1 }))
  same(await make({ guidanceInterval: [0.9, 1] }), await make({ guidanceScale: 1 }))
})

test('the interval takes the steps whose middle lies in it, with their scale', async () => {
  same(await make({ guidanceInterval: [0.25, 0.75] }), await make({ guidanceScale: [1, 9, 9, 1] }))
  same(await make({ guidanceInterval: [0.3, 0.6] }), await make({ guidanceScale: [1, 9, 1, 1] }))
  const guidanceScale = [9, 7, 5, 3]
  same(await make({ guidanceInterval: [0, 0.5], guidanceScale }), await make({ guidanceScale: [9, 7, 1, 1] }))
  // From a video only the last steps are taken; the interval is of all of them.
  const source = await make({ steps: 1 })
  const change = { video: source, strength: 0.5, latents: undefined }
  same(
    await make({ ...change, guidanceInterval: [0, 0.75], guidanceScale: 9 }),
    await make({ ...change, guidanceScale: [1, 1, 9, 1] }),
  )
})

test('the settings make the video again', async () => {
  const wanted = await make({ featureCache: 2, guidanceInterval: [0, 0.75] })
  const { featureCache, guidanceInterval } = JSON.parse(JSON.stringify(wanted.settings)) as GenerateOptions
  assert.deepEqual({ featureCache, guidanceInterval }, { featureCache: 2, guidanceInterval: [0, 0.75] })
  same(await make({ featureCache, guidanceInterval }), wanted)
  const { settings } = await make({})
  assert.deepEqual([settings?.featureCache, settings?.guidanceInterval], [undefined, undefined])
})

test('what is no count and no interval is refused by its name', async () => {
  for (const [parameter, wrong] of [
    ...[0, -1, 1.5, 1001, '2', null, true, Number.NaN].map((value) => ['featureCache', value]),
    ...[0.5, [0.2], [0.8, 0.2], [-0.1, 1], [0, 1.1], [0, 0.5, 1], ['0', '1'], [0, Number.NaN], null].map(
      (value) => ['guidanceInterval', value],
    ),
  ] as [string, unknown][]) {
    await assert.rejects(
      make({ [parameter]: wrong }),
      { code: 'ERR_INVALID_ARGUMENT', parameter },
      `${parameter} ${wrong}`,
    )
  }
})
