import { readdir } from 'node:fs/promises'
import path from 'node:path'
import type { NetworkFiles } from '../addon/interface.js'
import { show, TorchreelError } from '../errors.js'
import { readJson } from '../files/json.js'
import { DPMSolverMultistepScheduler, type Scheduler } from '../schedulers/index.js'
import { classNamed } from '../schedulers/names.js'
import { findGraphs } from './graphs.js'
import { checkLinks, checkPipelineClass, isFolder, selectFiles, shardsOf } from './selection.js'

const components = ['text_encoder', 'unet', 'vae'] as const
export type Component = (typeof components)[number]

/** A checkpoint on disk in the published layout, found whole and with a graph for each of its networks. */
export interface Checkpoint {
  readonly folder: string
  readonly files: Record<Component, NetworkFiles>
  /** sha256 of the UNet's graph. */
  readonly denoiserGraph: string
  readonly tokenizerFolder: string
  /** The content of scheduler/scheduler_config.json. */
  readonly schedulerConfig: Record<string, unknown>
  /** How many positions the text encoder has. */
  readonly positions: number
  /** How many layers the text encoder has. */
  readonly textLayers: number
  /** D of the text encoder's embeddings. */
  readonly textSize: number
  /** Token ids are below it. */
  readonly vocabularySize: number
  /** C of the latents. */
  readonly latentChannels: number
  /** Latents are divided by it before decoding. */
  readonly scalingFactor: number
  /** Pixels per latent in each direction: 8 for the published models. */
  readonly vaeScale: number
  /** Height and width in pixels that the VAE was trained on: the side of a tile. */
  readonly vaeSize: number
  /** Height and width in pixels that the model was trained on; undefined where its config does not say. */
  readonly size: number | undefined
  /** The guidance that the model is best at; undefined where model_index.json has no `_guidance_scale`. */
  readonly guidanceScale: number | undefined
  /** What was chosen for the caller. */
  readonly warnings: readonly string[]
}

export interface CheckpointOptions {
  variant?: string | undefined
  trustGraph?: boolean | undefined
}

/**
 * Reads the configs of a checkpoint folder and finds its weights and graphs. Reads no weights.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` (pickled weights, graphs not
 * pinned by this package), `ERR_MODEL_INCOMPATIBLE` (an architecture without a graph), `ERR_UNSAFE_PATH`
 */
export async function readCheckpoint(folder: string, options: CheckpointOptions): Promise<Checkpoint> {
  const root = path.resolve(folder)
  if (!(await isFolder(root))) {
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `there is no model folder ${root}`, { path: root })
  }
  const names = await filesOf(root)
  await checkLinks(root, names)
  const config = async (component: string, name = 'config.json') => readJson(path.join(root, component, name))
  const index = await readJson(path.join(root, 'model_index.json'))
  checkPipelineClass(root, index)
  const configs = {
    text_encoder: await config('text_encoder'),
    unet: await config('unet'),
    vae: await config('vae'),
  }

  const graphs = await findGraphs(root, configs, options.trustGraph === true)
  const warnings: string[] = []
  const weights = await findWeights(root, names, options.variant, warnings)
  const files = (component: Component): NetworkFiles => ({
    graph: graphs[component].file,
    weights: weights[component],
  })

  const schedulerConfig = await config('scheduler', 'scheduler_config.json')
  if (!classNamed(schedulerConfig._class_name)) {
    warnings.push(
      `scheduler: ${show(schedulerConfig._class_name)} is no class that torchreel has, so what its config says is ` +
        `taken by ${DPMSolverMultistepScheduler.name}`,
    )
  }

  // The graph's architecture is the config with its defaults filled in.
  const vaeScale = 2 ** ((graphs.vae.architecture.block_out_channels as number[]).length - 1)
  const { sample_size: sampleSize } = configs.unet
  return {
    folder: root,
    files: { text_encoder: files('text_encoder'), unet: files('unet'), vae: files('vae') },
    denoiserGraph: graphs.unet.sha256,
    tokenizerFolder: path.join(root, 'tokenizer'),
    schedulerConfig,
    positions: graphs.text_encoder.architecture.max_position_embeddings as number,
    textLayers: graphs.text_encoder.architecture.num_hidden_layers as number,
    textSize: graphs.text_encoder.architecture.hidden_size as number,
    vocabularySize: graphs.text_encoder.architecture.vocab_size as number,
    latentChannels: graphs.unet.architecture.in_channels as number,
    scalingFactor: positive('vae/config.json', 'scaling_factor', configs.vae.scaling_factor ?? 0.18215),
    vaeScale,
    vaeSize: positive('vae/config.json', 'sample_size', configs.vae.sample_size ?? 512),
    size:
      Number.isSafeInteger(sampleSize) && (sampleSize as number) > 0
        ? (sampleSize as number) * vaeScale
        : undefined,
    guidanceScale:
      index._guidance_scale === undefined
        ? undefined
        : positive('model_index.json', '_guidance_scale', index._guidance_scale),
    warnings,
  }
}

/** The scheduler that a pipeline has at first; a config that none can be made from is the model's mistake. */
export function schedulerOf({ folder, schedulerConfig }: Checkpoint): Scheduler {
  try {
    return DPMSolverMultistepScheduler.fromConfig(schedulerConfig)
  } catch (error) {
    if (!(error instanceof TorchreelError)) throw error
    const file = path.join(folder, 'scheduler/scheduler_config.json')
    const { message, parameter, expected, received } = error
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file}: ${message}`, {
      ...(parameter !== undefined && { parameter }),
      ...(expected !== undefined && { expected }),
      ...{ received, path: file, cause: error },
    })
  }
}

/** The names of the files that a checkpoint may consist of, with their folders. */
async function filesOf(root: string): Promise<string[]> {
  const folders = ['', 'scheduler/', 'tokenizer/', ...components.map((component) => `${component}/`)]
  const present = async (folder: string) => {
    const names = await readdir(path.join(root, folder)).catch(() => [])
    return names.map((name) => folder + name)
  }
  const names = (await Promise.all([...folders, 'graphs/'].map(present))).flat()
  return names.filter((name) => /\.(json|txt|safetensors|pt|bin|ckpt|pth)$/.test(name))
}

function positive(file: string, key: string, value: unknown): number {
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value
  throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} has ${key} ${JSON.stringify(value)}`, {
    parameter: key,
    expected: 'a positive number',
    received: value,
  })
}

// ---- weights --------------------------------------------------------------------------------------------------------

/** The safetensors of each network, shards among them. */
async function findWeights(
  root: string,
  names: readonly string[],
  variant: string | undefined,
  warnings: string[],
): Promise<Record<Component, string[]>> {
  const { weights, indexes } = selectFiles(root, names, variant)
  const shards = await Promise.all(
    indexes.map(async (index) => shardsOf(index, await readJson(path.join(root, index)))),
  )
  const found = [...weights, ...shards.flat()]
  const of = (component: Component) => {
    const files = found.filter((name) => name.startsWith(`${component}/`))
    if (variant === undefined && files.some((name) => name.includes('.fp16'))) {
      warnings.push(`${component}: only the fp16 variant is there, so it is used`)
    }
    return files.map((name) => path.join(root, name))
  }
  return { text_encoder: of('text_encoder'), unet: of('unet'), vae: of('vae') }
}
