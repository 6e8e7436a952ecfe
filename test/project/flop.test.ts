// The count of floating-point operations that measurements are held against.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  type TextEncoderWidths,
  textEncoderCount,
  type UNetWidths,
  unetCount,
  type VaeWidths,
  vaeDecoderCount,
} from '../../bench/flop.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { readSafetensors } from '../support/safetensors_file.js'

interface Graph {
  component: string
  file: string
  architecture: unknown
}
const { graphs, defaults } = JSON.parse(readFileSync(`${repository}models/graphs/manifest.json`, 'utf8')) as {
  graphs: Graph[]
  defaults: Record<string, object>
}
const architecture = (file: string) => graphs.find((graph) => graph.file === file)?.architecture
const published = architecture('modelscope-1.7b/unet.pt') as UNetWidths
const publishedVae = architecture('modelscope-1.7b/vae.pt') as VaeWidths
const size = { frames: 16, height: 32, width: 32 }

test('a guided call of the published UNet for 16 frames of 256 × 256 is 9.77 TFLOP, decoding a frame 0.622', () => {
  assert.equal((unetCount(published, size, true).flop / 1e12).toFixed(2), '9.77')
  assert.equal((vaeDecoderCount(publishedVae, { ...size, frames: 1 }).flop / 1e12).toFixed(3), '0.622')
})

test('the weights that products are made with are those in a checkpoint, number by number', () => {
  for (const folder of [tinyCheckpoint, `${repository}models/shapes`]) {
    const config = (component: string): unknown => {
      const own = JSON.parse(readFileSync(`${folder}/${component}/config.json`, 'utf8'))
      return { ...defaults[own._class_name ?? own.architectures[0]], ...own }
    }
    const matrices = (file: string, named: (name: string) => boolean) =>
      [...readSafetensors(`${folder}/${file}`)]
        .filter(([name, { shape }]) => shape.length >= 2 && named(name))
        .reduce((sum, [, { shape }]) => sum + shape.reduce((product, side) => product * side, 1), 0)

    assert.equal(
      unetCount(config('unet') as UNetWidths, { frames: 2, height: 8, width: 8 }, true).weights,
      matrices('unet/diffusion_pytorch_model.safetensors', () => true),
      folder,
    )
    assert.equal(
      vaeDecoderCount(config('vae') as VaeWidths, { frames: 2, height: 8, width: 8 }).weights,
      matrices('vae/diffusion_pytorch_model.safetensors', (name) =>
        /^(decoder|post_quant_conv)\./.test(name),
      ),
      folder,
    )
    assert.equal(
      textEncoderCount(config('text_encoder') as TextEncoderWidths, 1).weights,
      matrices(
        'text_encoder/model.safetensors',
        (name) => !name.includes('embedding') && !name.includes('position_ids'),
      ),
      folder,
    )
  }
})

test('without guidance a call is half of a pair; frames add up but for the attention between them', () => {
  const flop = (frames: number, guided = false) => unetCount(published, { ...size, frames }, guided).flop
  assert.equal(2 * flop(16), flop(16, true))
  // c₀ + c₁·F + c₂·F²: third differences vanish, and the second is that of the temporal attention alone.
  const [one, two, three, four] = [1, 2, 3, 4].map((frames) => flop(frames)) as [
    number,
    number,
    number,
    number,
  ]
  assert.equal(four - 3 * three + 3 * two - one, 0)
  assert.ok(three - 2 * two + one > 0)
})

test('what is computed is less than the definition for a pair, and the same numbers without any saving', () => {
  const pair = unetCount(published, size, true)
  assert.ok(pair.computed < pair.flop)
  // One prompt shares nothing. What is left is the text and the time.
  const alone = unetCount(published, { frames: 1, height: 1, width: 1 }, false, 0)
  assert.equal(alone.computed, alone.flop)
})
