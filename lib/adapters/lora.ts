import { show, TorchreelError } from '../errors.js'
import type { Component, Role } from '../families/family.js'
import {
  isFloatingPoint,
  isInteger,
  type SafetensorsHeader,
  type TensorHeader,
} from '../files/safetensors_header.js'
import { Complaints } from './complaints.js'
import { type LoraFile, peftPrefix } from './lora_file.js'

/** Shapes of a network's weights by name. */
export type WeightShapes = ReadonlyMap<string, readonly number[]>

/** A network that adapters may change. */
export interface AdaptedNetwork extends Component {
  readonly shapes: WeightShapes
}

/**
 * One change of a LoRA: weight += scale · alpha / r · up · down (Hu et al. 2021, https://arxiv.org/abs/2106.09685), or
 * weight += scale · up.
 */
export interface LoraLayer {
  readonly network: Role
  /** The weight or bias that it changes. */
  readonly weight: string
  /**
   * Names of tensors in the file: down (r, in, kernel…), up (out, r, 1…), and one number where the file has it. With a kernel
   * of k rows also (r · k, in · k) and (out · k, r · k). Without down, up is the whole change.
   */
  readonly down: string | undefined
  readonly up: string
  readonly alpha: string | undefined
  /** From the LoRA's configuration: α / r, or α / √r for a rank-stabilised LoRA; else 1. */
  readonly scale: number
}

type Half = 'down' | 'up' | 'alpha'

/** Changes of a whole tensor, which need no other half. `bias` is that of PEFT's upper half and is scaled like it. */
type Part = Half | 'difference' | 'biasDifference' | 'bias'

/**
 * How the names of a layer's halves end, after the name of the layer that they change: PEFT, with the adapter's name or
 * without; diffusers; Kohya; the ModelScope trainer's `stable_lora`, whose names have no `.weight`.
 */
const endings: readonly (readonly [ending: RegExp, part: Part])[] = [
  [/\.lora_A(\.[^.]+)?\.weight$|\.lora_A$/, 'down'],
  [/\.lora_B(\.[^.]+)?\.weight$|\.lora_B$/, 'up'],
  [/(\.|_)lora\.down\.weight$|\.lora_linear_layer\.down\.weight$|\.lora_down\.weight$/, 'down'],
  [/(\.|_)lora\.up\.weight$|\.lora_linear_layer\.up\.weight$|\.lora_up\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
  [/\.diff$/, 'difference'],
  [/\.diff_b$/, 'biasDifference'],
  [/\.lora_B(\.[^.]+)?\.bias$/, 'bias'],
]

/** Adapters that are more than two halves per layer, by the names of their tensors. */
const otherKinds: readonly (readonly [kind: string, name: RegExp])[] = [
  ['DoRA', /\.(lora_magnitude_vector(\..+)?|dora_scale)$/],
  ['LoHa', /\.hada_(w[12]_[ab]|t[12])$/],
  ['LoKr', /\.lokr_(w[12](_[ab])?|t2)$/],
  ['LoRA with a Tucker core', /\.lora_mid(\.weight)?$/],
  ['AdaLoRA', /\.lora_E(\.[^.]+)?$/],
  ['BOFT', /\.boft_[Rs](\.[^.]+)?$/],
  ['OFT', /\.oft_(R(\..+)?|blocks|diag)$/],
  ['IA3', /\.ia3_l(\.[^.]+)?$|\.on_input$/],
  ['VeRA', /\.vera_(lambda_[bd]|[AB])(\.[^.]+)?$/],
]

/**
 * Finds the layers of a LoRA and the weights that they change. A tensor's name is one of the names that the family knows
 * for a layer, with or without the network's folder in front, and an ending: `unet.….lora_A.weight` (PEFT, diffusers),
 * `lora_unet_….lora_down.weight` (Kohya).
 *
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE` for adapters of another kind, and naming up to ten tensors of each kind
 * that do not fit the model
 */
export function findLoraLayers(
  { header, config }: Pick<LoraFile, 'header' | 'config'>,
  networks: readonly AdaptedNetwork[],
): LoraLayer[] {
  refuseOtherKinds(header, config)
  const unknown = new Complaints('unknown')
  const halved = new Complaints('without its other half')
  const misfit = new Complaints('of another shape or type')
  const targets = nameModules(networks)

  const found = new Map<Module, { module: Module } & Partial<Record<Part, string>>>()
  const names = [...header.tensors.keys()]
  const ignored = new Set(networks.flatMap(({ ignoredLoraTensors }) => ignoredLoraTensors?.(names) ?? []))
  for (const name of names) {
    if (ignored.has(name)) continue
    const [ending, part] = endings.find(([ending]) => ending.test(name)) ?? []
    const layerName = ending && name.replace(ending, '')
    const module = layerName && targets.get(layerName.replace(peftPrefix, ''))
    if (!module || !part) {
      unknown.add(name)
      continue
    }
    const layer = found.get(module) ?? { module }
    if (layer[part]) unknown.add(name)
    layer[part] = name
    found.set(module, layer)
  }

  const layers: LoraLayer[] = []
  for (const { module, down, up, alpha, difference, biasDifference, bias } of found.values()) {
    const addWhole = (tensor: string, weight: string, scale: number) => {
      const shape = module.network.shapes.get(weight)
      const { shape: actual, dtype } = header.tensors.get(tensor) as TensorHeader
      if (!shape) unknown.add(tensor)
      else if (!sameKernel(actual, shape)) misfit.add(`${tensor} [${actual}] instead of [${shape}]`)
      else if (!isFloatingPoint(header.tensors.get(tensor) as TensorHeader))
        misfit.add(`${tensor} of type ${dtype}`)
      layers.push({
        network: module.network.role,
        weight,
        down: undefined,
        up: tensor,
        alpha: undefined,
        scale,
      })
    }
    if (difference) addWhole(difference, module.weight, 1)
    if (biasDifference) addWhole(biasDifference, `${module.name}.bias`, 1)
    if (!down && !up && !bias && !alpha) continue
    if (!down || !up) {
      halved.add(down ?? up ?? bias ?? (alpha as string))
      continue
    }
    const { weight, shape } = module
    const tensor = (name: string) => header.tensors.get(name) as TensorHeader
    const rank = tensor(down).shape[0] as number
    const fits = (name: string, wanted: readonly number[], isNumber = isFloatingPoint) => {
      const { dtype, shape } = tensor(name)
      if (!sameKernel(shape, wanted) || rank === 0) misfit.add(`${name} [${shape}] instead of [${wanted}]`)
      else if (!isNumber(tensor(name))) misfit.add(`${name} of type ${dtype}`)
    }
    const [out, ...rest] = shape as [number, ...number[]]
    if (down.endsWith('.weight')) {
      fits(down, [rank, ...rest])
      fits(up, [out, rank])
    } else {
      // stable_lora's halves are matrices over rows of the kernel: down (r · k, in · k), up (out · k, r · k).
      const [inner, kernel = 1] = rest
      fits(down, [rank, (inner as number) * kernel])
      fits(up, [out * kernel, rank])
    }
    if (alpha) fits(alpha, [], (header) => isFloatingPoint(header) || isInteger(header))
    const scale = alpha ? 1 : configuredScale(header.file, config, module, rank)
    layers.push({ network: module.network.role, weight, down, up, alpha, scale })
    if (bias) addWhole(bias, `${module.name}.bias`, scale)
  }
  const complaints = [unknown, halved, misfit].filter(({ count }) => count > 0)
  if (layers.length > 0 && complaints.length === 0) return layers
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `the LoRA ${header.file} does not fit this model: ${complaints.join('; ') || 'it changes nothing'}`,
    { path: header.file },
  )
}

function refuseOtherKinds({ file, tensors }: SafetensorsHeader, config: LoraFile['config']): void {
  const names = [...tensors.keys()]
  const [kind, sign] =
    otherKinds
      .map(([kind, pattern]) => [kind, names.find((name) => pattern.test(name))] as const)
      .find(([, name]) => name !== undefined) ?? configuredKind(config)
  if (kind === undefined) return
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `${file} is ${/^[AIO]/.test(kind) ? 'an' : 'a'} ${kind} (${sign}), which torchreel cannot load; it loads plain LoRAs`,
    { path: file },
  )
}

/** The kind that PEFT's configuration names, and the key that says so, where it is not LoRA. */
function configuredKind({ use_dora, peft_type: type }: LoraFile['config']): readonly string[] {
  if (use_dora === true) return ['DoRA', 'use_dora']
  return typeof type === 'string' && type !== 'LORA' ? [type, 'peft_type'] : []
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
      for (const alias of network.loraNames?.(name) ?? []) {
        modules.set(alias, module)
        // Files that were saved from one network alone have its layers' own names.
        if (alias.startsWith(`${network.folder}.`))
          modules.set(alias.slice(network.folder.length + 1), module)
      }
    }
  }
  return modules
}

/** The scale that a LoRA's configuration gives a layer, as PEFT reads it: α / r, or α / √r; 1 if it has no α. */
function configuredScale(
  file: string,
  config: LoraFile['config'],
  { network: { folder }, name }: Module,
  rank: number,
): number {
  const read = (key: string) => config[`${folder}.${key}`] ?? config[key]
  const pattern = (read('alpha_pattern') ?? {}) as Record<string, unknown>
  const key = Object.keys(pattern).find((key) => matchesPattern(file, key, name))
  const alpha = key === undefined ? read('lora_alpha') : pattern[key]
  if (alpha === undefined || alpha === null) return 1
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw new TorchreelError(
      'ERR_MODEL_CORRUPT',
      `${file}: the lora_alpha of ${name} must be a number, got ${show(alpha)}`,
      { path: file, received: alpha },
    )
  }
  return read('use_rslora') === true ? alpha / Math.sqrt(rank) : alpha / rank
}

/**
 * Expressions that mean the same in Python and here. A stranger's file may have any: without nested repetition, and with two
 * repetitions at most, none takes long.
 */
const readablePattern = /^\^?(?:[\w-]|\\[.d]|\.[*+]?|\\d\+|[()|])*\$?$/

/** Whether a key of `alpha_pattern` is the name of a layer or the end of one. PEFT reads the keys as regular expressions. */
function matchesPattern(file: string, key: string, name: string): boolean {
  const repetitions = key.match(/[*+]/g)?.length ?? 0
  try {
    if (readablePattern.test(key) && repetitions <= 2) return new RegExp(`^(?:.*\\.)?(?:${key})$`).test(name)
  } catch {
    // Its brackets do not match.
  }
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `${file}: alpha_pattern has the expression ${show(key)}, which torchreel does not read`,
    { path: file, received: key },
  )
}
