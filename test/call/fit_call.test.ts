// A call is fitted to its model: what the model's family refuses, what its networks can take, and its defaults.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { GenerateOptions } from 'torchreel'
import { checkCall } from '#dist/call/check_call.js'
import { fitCall, sizeCall } from '#dist/call/fit_call.js'
import type { ModelProperties } from '#dist/families/family.js'
import { defaultLimits } from '#dist/options/limits.js'

/** A family of which three latent frames are nine frames, and that has no blocks to skip. */
const model = {
  family: {
    title: 'folded',
    refusedOptions: { freeU: 'it has no up blocks', clipSkip: 'it skips no layers' },
  },
  defaults: { steps: 50, frames: 9, fps: 16, guidanceScale: 5, videoGuidanceScale: 6, strength: 0.7 },
  size: { height: 480, width: 832 },
  ...{ sizeMultiple: 16, frameMultiple: 4, vaeScale: 8, tileSize: 256, latentChannels: 16 },
  ...{ textLayers: 24, textSize: 64 },
} as unknown as ModelProperties

const fit = (options: GenerateOptions) => fitCall(checkCall('a', options, defaultLimits), model)
const size = (options: GenerateOptions) => sizeCall(fit(options), model, defaultLimits)

test('the defaults are the model’s', () => {
  const { steps, guidanceScale, strength, frames, width, height, fps, latentShape } = size({})
  assert.deepEqual([steps, guidanceScale, strength, fps], [50, 5, undefined, 16])
  assert.deepEqual([frames, height, width], [9, 480, 832])
  assert.deepEqual(latentShape, [1, 16, 3, 60, 104])
})

test('a call that starts from a video has defaults of its own, and its sizes wait for the video', () => {
  const call = fit({ video: 'a.mp4', width: 160 })
  assert.deepEqual([call.guidanceScale, call.strength, call.width, call.height], [6, 0.7, 160, undefined])
  const source = { width: 160, height: 96, frames: 5, fps: 25, data: new Uint8Array(), warnings: [] }
  const { frames, width, height, fps, latentShape } = sizeCall(call, model, defaultLimits, source)
  assert.deepEqual([frames, width, height, fps], [5, 160, 96, 25])
  assert.deepEqual(latentShape, [1, 16, 2, 12, 20])
})

test('tiles have the model’s size unless they are given one', () => {
  assert.deepEqual(fit({ vaeTiling: true }).vaeTiling, { tileSize: 256, overlap: 0.25 })
  assert.deepEqual(fit({ vaeTiling: { tileSize: 64 } }).vaeTiling, { tileSize: 64, overlap: 0.25 })
  assert.equal(fit({}).vaeTiling, undefined)
})

for (const [parameter, message, options] of [
  [
    'freeU',
    /^freeU cannot be used with folded: it has no up blocks$/,
    { freeU: { s1: 1, s2: 1, b1: 1, b2: 1 } },
  ],
  ['clipSkip', /^clipSkip cannot be used with folded/, { clipSkip: 1 }],
  ['width', /multiple of 16, such as 176/, { width: 168 }],
  ['frames', /multiple of 4 and 1 more, such as 9 or 13/, { frames: 10 }],
  ['vaeTiling.tileSize', /multiple of 8, such as 64/, { vaeTiling: { tileSize: 66 } }],
  ['guidanceScale', /list of 50 \(one per step\)/, { guidanceScale: [1, 2] }],
] as [string, RegExp, GenerateOptions][]) {
  test(`${parameter} that the model cannot honour`, () =>
    assert.throws(() => size(options), { code: 'ERR_INVALID_ARGUMENT', parameter, message }))
}

test('an option that is refused may stand at its default', () => {
  assert.equal(fit({ clipSkip: 0 }).clipSkip, 0)
})
