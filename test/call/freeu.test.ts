// FreeU against the reference: whole runs of 4 DDIM steps with s1 0.9, s2 0.2, b1 1.2, b2 1.4, seed 11.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type FreeU, type GenerateOptions, TextToVideoPipeline } from 'torchreel'
import { relativeError, repository, tinyCheckpoint } from '../support/fixtures.js'
import { float32, readSafetensors, uint8 } from '../support/safetensors_file.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())
const expected = readSafetensors(`${repository}test/fixtures/freeu.safetensors`)

const prompt = 'a red circle moving left'
const freeU: FreeU = { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 }
const options = { scheduler: 'ddim', steps: 4, seed: 11, returnLatents: true } as const
// The second has blocks of odd and of different sides, where the reference's mask is not centred.
const cases: Record<string, GenerateOptions> = {
  freeu: { ...options, frames: 3, width: 64, height: 64 },
  freeu_odd: { ...options, frames: 2, width: 72, height: 40 },
}

for (const [name, call] of Object.entries(cases)) {
  test(`${name}: latents within 1e-3 relative, frames at most 1 apart`, async () => {
    const video = await pipeline.generate(prompt, { ...call, freeU })
    const wanted = float32(expected, `${name}.latents`)
    const error = relativeError(video.latents?.data ?? [], wanted)
    assert.ok(error < 1e-3, `latents are ${error} off`)
    const frames = uint8(expected, `${name}.frames`)
    assert.equal(video.data.length, frames.length)
    assert.ok(video.data.every((value, index) => Math.abs(value - (frames[index] as number)) <= 1))

    const off = await pipeline.generate(prompt, call)
    assert.ok(relativeError(off.latents?.data ?? [], wanted) > 0.02, 'FreeU makes another video')
  })
}

test('factors of 1 are FreeU switched off, and it does not stay on for the next call', async () => {
  const call = cases.freeu
  const before = await pipeline.generate(prompt, call)
  await pipeline.generate(prompt, { ...call, freeU })
  const ones = await pipeline.generate(prompt, { ...call, freeU: { s1: 1, s2: 1, b1: 1, b2: 1 } })
  const afterwards = await pipeline.generate(prompt, call)
  assert.deepEqual(ones.latents, before.latents)
  assert.deepEqual(afterwards.latents, before.latents)
})

test('each factor changes the video', async () => {
  const call = { ...options, steps: 1, frames: 2 }
  const off = await pipeline.generate(prompt, call)
  for (const factor of ['s1', 's2', 'b1', 'b2']) {
    const one = await pipeline.generate(prompt, {
      ...call,
      freeU: { s1: 1, s2: 1, b1: 1, b2: 1, [factor]: 0.5 },
    })
    assert.notDeepEqual(one.latents, off.latents, factor)
  }
})

test('what is no four factors from 0 to 10 is refused', async () => {
  for (const [parameter, wrong] of [
    ['freeU', true],
    ['freeU.b2', { s1: 0.9, s2: 0.2, b1: 1.2 }],
    ['freeU.s1', { ...freeU, s1: -1 }],
    ['freeU.b1', { ...freeU, b1: '1.2' }],
    ['freeU.b3', { ...freeU, b3: 1 }],
  ] as const) {
    await assert.rejects(pipeline.generate(prompt, { freeU: wrong as unknown as FreeU }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter,
    })
  }
})
