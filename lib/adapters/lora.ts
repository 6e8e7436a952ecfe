import { TorchreelError } from '../errors.js'
import { isFloatingPoint, type SafetensorsHeader } from '../files/safetensors_header.js'
import { Complaints } from './complaints.js'

/** The networks that adapters change. */
export type AdaptedNetwork = 'text_encoder' | 'unet'

/** Shapes of a network's weights by name. */
export type WeightShapes = ReadonlyMap<string, readonly number[]>

/** One layer: weight += scale · alpha / r · up · down (Hu et al. 2021, https://arxiv.org/abs/2106.09685). */
export interface LoraLayer {
  readonly network: AdaptedNetwork
  /** The weight that it changes. */
  readonly weight: string
  /** Names of tensors in the file: down (r, in, kernel…), up (out, r, 1…), and one number where the file has it. */
  readonly down: string
  readonly up: string
  readonly alpha: string | undefined
  /** From the file's metadata: α / r, or α / √r for a rank-stabilised one; else 1. */
  readonly scale: number
}

/** How the halves of a layer are named after the module that they change: PEFT, diffusers, Kohya. */
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
 * Finds the layers of a LoRA and the weights that they change, in the layouts of PEFT and diffusers
 * (`unet.….lora_A.weight`) and of Kohya (`lora_unet_….lora_down.weight`).
 *
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE` naming up to ten tensors of each kind that do not fit the model
 */
export function loraLayers(
  header: SafetensorsHeader,
  weights: Readonly<Record<AdaptedNetwork, WeightShapes>>,
): LoraLayer[] {
  const unknown = new Complaints('unknown')
  const halved = new Complaints('without its other half')
  const misfit = new Complaints('of another shape or type')
  const targets = modulesOf(weights)
  const metadata = adapterMetadata(header)

  const found = new Map<string, { module: Module; down?: string; up?: string; alpha?: string }>()
  for (const name of header.tensors.keys()) {
    const [ending, half] = endings.find(([ending]) => name.endsWith(ending)) ?? []
    const module = ending && targets.get(currentModuleName(name.slice(0, -ending.length)))
    if (!module || !half) {
      unknown.add(name)
      continue
    }
    const layer = found.get(module.path) ?? { module }
    if (layer[half]) unknown.add(name)
    layer[half] = name
    found.set(module.path, layer)
  }

  const layers: LoraLayer[] = []
  for (const { module, down, up, alpha } of found.values()) {
    if (!down || !up) {
      halved.add(down ?? up ?? (alpha as string))
      continue
    }
    const { network, weight, shape } = module
    const tensor = (name: string) => header.tensors.get(name) as { dtype: string; shape: readonly number[] }
    const rank = tensor(down).shape[0] as number
    const fits = (name: string, wanted: readonly number[]) => {
      if (rank > 0 && isFloatingPoint(tensor(name)) && sameKernel(tensor(name).shape, wanted)) return
      misfit.add(`${name} [${tensor(name).shape}] instead of [${wanted}]`)
    }
    fits(down, [rank, ...shape.slice(1)])
    fits(up, [shape[0] as number, rank])
    if (alpha) fits(alpha, [])
    layers.push({ network, weight, down, up, alpha, scale: alpha ? 1 : metadata(module, rank) })
  }
  const complaints = [unknown, halved, misfit].filter(({ count }) => count > 0)
  if (layers.length > 0 && complaints.length === 0) return layers
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `the LoRA ${header.file} does not fit this model: ${complaints.join('; ') || 'it changes nothing'}`,
    { path: header.file },
  )
}

/** Equal but for ones at the end: files hold linear layers as 1 × 1 convolutions, and the other way round. */
function sameKernel(shape: readonly number[], wanted: readonly number[]): boolean {
  const length = Math.max(shape.length, wanted.length)
  return Array.from({ length }, (_, i) => (shape[i] ?? 1) === (wanted[i] ?? 1)).every(Boolean)
}

// ---- names ----------------------------------------------------------------------------------------------------------

interface Module {
  readonly network: AdaptedNetwork
  /** Unique in the model: the network and the module in it. */
  readonly path: string
  readonly name: string
  readonly weight: string
  readonly shape: readonly number[]
}

/** Tables are no layers: PEFT has other halves for them, which are refused as unknown. */
const isTable = /\.(token|position)_embedding\.weight$/

/** Every linear and convolution layer of the model under each name that files have for it. */
function modulesOf(weights: Readonly<Record<AdaptedNetwork, WeightShapes>>): Map<string, Module> {
  const modules = new Map<string, Module>()
  const prefixes = { unet: ['lora_unet_'], text_encoder: ['lora_te_', 'lora_te1_'] }
  for (const network of ['unet', 'text_encoder'] as const) {
    for (const [weight, shape] of weights[network]) {
      if (!weight.endsWith('.weight') || shape.length < 2 || isTable.test(weight)) continue
      const name = weight.slice(0, -'.weight'.length)
      const module: Module = { network, path: `${network}.${name}`, name, weight, shape }
      modules.set(module.path, module)
      for (const prefix of prefixes[network]) modules.set(prefix + name.replaceAll('.', '_'), module)
      // The text encoder of transformers 5 has no outer module.
      if (network === 'text_encoder') modules.set(`text_encoder.${name.replace(/^text_model\./, '')}`, module)
    }
  }
  return modules
}

/** Files from before PEFT name an attention's processor: `attn1.processor.to_out_lora`, `self_attn.to_q_lora`. */
function currentModuleName(name: string): string {
  if (name.startsWith('text_encoder.')) {
    return name.replace(/\.self_attn\.to_(q|k|v|out)$/, '.self_attn.$1_proj')
  }
  return name.replace('.processor.', '.').replace(/\.to_out$/, '.to_out.0')
}

// ---- metadata -------------------------------------------------------------------------------------------------------

/** The scale that the adapter's configuration in the file's metadata gives a module, as PEFT reads it. */
function adapterMetadata({ file, metadata }: SafetensorsHeader): (module: Module, rank: number) => number {
  let config: Record<string, unknown>
  try {
    config = JSON.parse(metadata.lora_adapter_metadata ?? '{}') ?? {}
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file}: its lora_adapter_metadata is no JSON`, {
      path: file,
      cause: error,
    })
  }
  return ({ network, name }, rank) => {
    const pattern = (config[`${network}.alpha_pattern`] ?? {}) as Record<string, unknown>
    const names = Object.keys(pattern).map((key) => key.replace(/^\^/, ''))
    const key = names.find((key) => name === key || name.endsWith(`.${key}`))
    const alpha = key === undefined ? config[`${network}.lora_alpha`] : (pattern[key] ?? pattern[`^${key}`])
    if (typeof alpha !== 'number') return 1
    return config[`${network}.use_rslora`] === true ? alpha / Math.sqrt(rank) : alpha / rank
  }
}
