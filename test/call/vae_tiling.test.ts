// The VAE in tiles: the reference's frames, and where tiles make no difference.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { type GenerateOptions, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'
import { uint8 } from '../support/safetensors_file.js'
import { readFixtures } from '../support/video_to_video.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())

const { tiling, tensors } = readFixtures()
const small = { steps: 2, frames: 2, seed: 3, width: 64, height: 40 } as const satisfies GenerateOptions

for (const { name, tileSize, ...options } of tiling.runs) {
  test(`${name}: frames at most 1 apart from the reference’s`, async () => {
    const video = await pipeline.generate(tiling.prompt, { ...options, vaeTiling: { tileSize } })
    const wanted = uint8(tensors, `${name}.frames`)
    assert.equal(video.data.length, wanted.length)
    assert.ok(video.data.every((value, i) => Math.abs(value - (wanted[i] as number)) <= 1))
  })
}

test('frames that fit into a tile are not cut: the default tile is the VAE’s own size', async () => {
  const whole = await pipeline.generate('a boat', small)
  const tiled = await pipeline.generate('a boat', { ...small, vaeTiling: true })
  assert.deepEqual(tiled.data, whole.data)
  const larger = { ...small, width: 72 }
  const cut = await pipeline.generate('a boat', { ...larger, vaeTiling: true })
  assert.notDeepEqual(cut.data, (await pipeline.generate('a boat', larger)).data)
})

test('any tile and overlap give whole frames', async () => {
  for (const vaeTiling of [
    { tileSize: 20, overlap: 0 },
    { tileSize: 20, overlap: 0.5 },
    { tileSize: 28, overlap: 0.3 },
    { tileSize: 4, overlap: 0.25 },
  ]) {
    const video = await pipeline.generate('a boat', { ...small, frames: 1, vaeTiling })
    assert.equal(video.data.length, 64 * 40 * 3)
  }
})

describe('refused', () => {
  for (const [parameter, vaeTiling] of [
    ['vaeTiling', 512],
    ['vaeTiling', null],
    ['vaeTiling.tileSize', { tileSize: 30 }],
    ['vaeTiling.tileSize', { tileSize: 0 }],
    ['vaeTiling.overlap', { overlap: 0.6 }],
    ['vaeTiling.overlap', { overlap: Number.NaN }],
    ['vaeTiling.tile', { tile: 32 }],
  ] as const) {
    test(JSON.stringify(vaeTiling), async () => {
      const options = { ...small, vaeTiling } as unknown as GenerateOptions
      await assert.rejects(pipeline.generate('a boat', options), { code: 'ERR_INVALID_ARGUMENT', parameter })
    })
  }
})
