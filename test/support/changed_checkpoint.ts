import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after } from 'node:test'
import { tinyCheckpoint } from './fixtures.js'
import { type FileTensors, readSafetensors, writeSafetensors } from './safetensors_file.js'

/** The folder of the copies. Removed after the tests. */
export const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-checkpoints-'))
after(() => rmSync(folder, { recursive: true }))
let copies = 0

export const unet = 'unet/diffusion_pytorch_model.safetensors'

/** Makes a copy of a small checkpoint and changes it. */
export function changed(
  change: (file: (name: string) => string) => void,
  checkpoint = tinyCheckpoint,
): string {
  const copy = path.join(folder, String(copies++))
  cpSync(checkpoint, copy, { recursive: true })
  change((name) => path.join(copy, name))
  return copy
}

export function changedWeights(component: string, change: (tensors: FileTensors) => void): string {
  return changed((file) => {
    const name = component === 'text_encoder' ? 'model' : 'diffusion_pytorch_model'
    const weights = file(`${component}/${name}.safetensors`)
    const tensors = readSafetensors(weights)
    change(tensors)
    writeSafetensors(weights, tensors)
  })
}

export function changedConfig(component: string, change: (config: Record<string, unknown>) => void): string {
  return changed((file) => {
    const name = file(`${component}/config.json`)
    const config = JSON.parse(readFileSync(name, 'utf8')) as Record<string, unknown>
    change(config)
    writeFileSync(name, JSON.stringify(config))
  })
}
