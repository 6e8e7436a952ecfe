import { cpSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { python } from './compiled_model.js'
import { repository } from './fixtures.js'
import { readSafetensors } from './safetensors_file.js'
import type { WanRun } from './wan_runs.js'

/** A small checkpoint of Wan with other dimensions than the package has graphs for. */
export const wanVariant = `${repository}test/fixtures/wan_variant/`

export const wanVariantExpected = JSON.parse(readFileSync(`${wanVariant}expected.json`, 'utf8')) as {
  tokens: { text: string; ids: number[] }[]
  pipelines: WanRun[]
  bfloat16: WanRun
  /** The transformer's parameters that the reference keeps in float32. */
  float32: string[]
  lora: { call: WanRun; cases: { name: string; loras: Record<string, number> }[] }
}
export const wanVariantTensors = readSafetensors(`${wanVariant}expected.safetensors`)

/** Makes a checkpoint in `folder`: the variant, and its graphs as a user exports them. Load it with `trustGraph`. */
export function exportWanVariant(folder: string): string {
  const model = path.join(folder, 'model')
  cpSync(`${wanVariant}checkpoint`, model, { recursive: true })
  python('models/export.py', model)
  return model
}
