// LoRAs for Wan in each spelling change the transformer’s result as the reference’s.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, afterEach, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { relativeError } from '../support/fixtures.js'
import { float32 } from '../support/safetensors_file.js'
import { optionsOf } from '../support/wan_runs.js'
import {
  exportWanVariant,
  wanVariantTensors as tensors,
  wanVariant,
  wanVariantExpected,
} from '../support/wan_variant.js'

const { call, cases } = wanVariantExpected.lora
const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-wan-lora-'))
after(() => rmSync(scratch, { recursive: true }))
const pipeline = await TextToVideoPipeline.fromPretrained(exportWanVariant(scratch), { trustGraph: true })
after(() => pipeline.dispose())
afterEach(() => pipeline.unloadLora())

/** The latents after one step from σ = 1 to 0 without guidance: the noise minus the transformer’s result. */
async function latents(): Promise<Float32Array> {
  const video = await pipeline.generate(call.prompt as string, optionsOf(pipeline, call, tensors))
  return video.latents?.data as Float32Array
}

const minus = (one: Float32Array, other: Float32Array) =>
  one.map((value, at) => value - (other[at] as number))

const wantedOwn = float32(tensors, 'lora.none')
const own = await latents()

test('none', () => {
  assert.ok(relativeError(own, wantedOwn) < 1e-4, `${relativeError(own, wantedOwn)} off`)
})

for (const { name, loras } of cases) {
  const what = Object.entries(loras).map(([lora, scale]) => `${lora} × ${scale}`)
  test(`${name} (${what.join(', ')}): the change is within 1e-3 relative, the latents within 1e-4`, async () => {
    for (const [lora, scale] of Object.entries(loras)) {
      await pipeline.loadLora(`${wanVariant}lora_${lora}.safetensors`, { scale })
    }
    const changed = await latents()
    const wanted = float32(tensors, `lora.${name}`)
    const error = relativeError(minus(changed, own), minus(wanted, wantedOwn))
    assert.ok(error < 1e-3, `the change is ${error} off`)
    assert.ok(relativeError(changed, wanted) < 1e-4, `latents are ${relativeError(changed, wanted)} off`)
  })
}
