import { TorchreelError } from '../errors.js'
import type { Component, Role } from '../families/family.js'
import { isFloatingPoint, type SafetensorsHeader } from '../files/safetensors_header.js'
import { Complaints } from './complaints.js'

/** Shapes of a network's weights by name. */
export type WeightShapes = ReadonlyMap<string, readonly number[]>

/** A network that adapters may change. */
export interface AdaptedNetwork extends Component {
  readonly shapes: WeightShapes
}

/** One layer: weight += scale · alpha / r · up · down (Hu et al. 2021, https://arxiv.org/abs/2106.09685). */
export interface LoraLayer {
  readonly network: Role
  /** The weight that it changes. */
  readonly weight: string
  /** Names of tensors in the file: down (r, in, kernel…), up (out, r, 1…), and one number where the file has it. */
  readonly down: string
  readonly up: string
  readonly alpha: string | undefined
  /** From the file's metadata: α / r, or α / √r for a rank-stabilised LoRA; else 1. */
  readonly scale: number
}

/** How the names of a layer's halves end, after the name of the layer that they change: PEFT, diffusers, Kohya. */
const endings: readonly [ending: string, half: 'down' | 'up' | 'alpha'][] = [
  ['.lora_A.weight', 'down'],
  ['.lora_B.weight', 'up'],
  ['.lora.down.weight', 'down'],
  ['.lora.up.weight', 'up'],
  ['.lora_linear_layer.down.weight', 'down'],
  ['.lora_linear_layer.up.weight', 'up'],
  ['_lora.down.weight', 'down'],
  ['_lora.up.weight', 'up'],
  ['.lora_down.weight', 'down'],
  ['.lora_up.weight', 'up'],
  ['.alpha', 'alpha'],
]

/**
 * Finds the layers of a LoRA and the weights that they change. A tensor's name is one of the names that the family knows
 * for a layer, and an ending: `unet.….lora_A.weight` (PEFT, diffusers), `lora_unet_….lora_down.weight` (Kohya).
 *
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE` naming up to ten tensors of each kind that do not fit the model
 */
export function findLoraLayers(header: SafetensorsHeader, networks: readonly AdaptedNetwork[]): LoraLayer[] {
  const unknown = new Complaints('unknown')
  const halved = new Complaints('without its other half')
  const misfit = new Complaints('of another shape or type')
  const targets = nameModules(networks)
  const metadataScale = readMetadata(header)

  const found = new Map<Module, { module: Module; down?: string; up?: string; alpha?: string }>()
  for (const name of header.tensors.keys()) {
    const [ending, half] = endings.find(([ending]) => name.endsWith(ending)) ?? []
    const module = ending && targets.get(name.slice(0, -ending.length))
    if (!module || !half) {
      unknown.add(name)
      continue
    }
    const layer = found.get(module) ?? { module }
    if (layer[half]) unknown.add(name)
    layer[half] = name
    found.set(module, layer)
  }

  const layers: LoraLayer[] = []
  for (const { module, down, up, alpha } of found.values()) {
    if (!down || !up) {
      halved.add(down ?? up ?? (alpha as string))
      continue
    }
    const { weight, shape } = module
    const tensor = (name: string) => header.tensors.get(name) as { dtype: string; shape: readonly number[] }
    const rank = tensor(down).shape[0] as number
    const fits = (name: string, wanted: readonly number[]) => {
      if (rank > 0 && isFloatingPoint(tensor(name)) && sameKernel(tensor(name).shape, wanted)) return
      misfit.add(`${name} [${tensor(name).shape}] instead of [${wanted}]`)
    }
    fits(down, [rank, ...shape.slice(1)])
    fits(up, [shape[0] as number, rank])
    if (alpha) fits(alpha, [])
    layers.push({
      network: module.network.role,
      weight,
      down,
      up,
      alpha,
      scale: alpha ? 1 : metadataScale(module, rank),
    })
  }
  const complaints = [unknown, halved, misfit].filter(({ count }) => count > 0)
  if (layers.length > 0 && complaints.length === 0) return layers
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `the LoRA ${header.file} does not fit this model: ${complaints.join('; ') || 'it changes nothing'}`,
    { path: header.file },
  )
}

/** Equal except for ones at the end: files hold linear layers as 1 × 1 convolutions, and the reverse. */
function sameKernel(shape: readonly number[], wanted: readonly number[]): boolean {
  const length = Math.max(shape.length, wanted.length)
  return Array.from({ length }, (_, i) => (shape[i] ?? 1) === (wanted[i] ?? 1)).every(Boolean)
}

// ---- names ----------------------------------------------------------------------------------------------------------

/** A linear or convolution layer of the model. */
interface Module {
  readonly network: AdaptedNetwork
  readonly name: string
  readonly weight: string
  readonly shape: readonly number[]
}

/** The layers that LoRAs may change, under each name that files have for them. */
function nameModules(networks: readonly AdaptedNetwork[]): Map<string, Module> {
  const modules = new Map<string, Module>()
  for (const network of networks) {
    for (const [weight, shape] of network.shapes) {
      if (!weight.endsWith('.weight') || shape.length < 2) continue
      const name = weight.slice(0, -'.weight'.length)
      const module: Module = { network, name, weight, shape }
      for (const alias of network.loraNames?.(name) ?? []) modules.set(alias, module)
    }
  }
  return modules
}

// ---- metadata -------------------------------------------------------------------------------------------------------

/** Reads the adapter's configuration in the file's metadata, as PEFT does: it gives the scale of a layer. */
function readMetadata({ file, metadata }: SafetensorsHeader): (module: Module, rank: number) => number {
  let config: Record<string, unknown>
  try {
    config = JSON.parse(metadata.lora_adapter_metadata ?? '{}') ?? {}
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file}: its lora_adapter_metadata is not JSON`, {
      path: file,
      cause: error,
    })
  }
  return ({ network: { folder }, name }, rank) => {
    const pattern = (config[`${folder}.alpha_pattern`] ?? {}) as Record<string, unknown>
    const names = Object.keys(pattern).map((key) => key.replace(/^\^/, ''))
    const key = names.find((key) => name === key || name.endsWith(`.${key}`))
    const alpha = key === undefined ? config[`${folder}.lora_alpha`] : (pattern[key] ?? pattern[`^${key}`])
    if (typeof alpha !== 'number') return 1
    return config[`${folder}.use_rslora`] === true ? alpha / Math.sqrt(rank) : alpha / rank
  }
}
