import { readdir } from 'node:fs/promises'
import path from 'node:path'
import type { NetworkFiles } from '../addon/interface.js'
import { show, TorchreelError } from '../errors.js'
import { requireFamily } from '../families/families.js'
import type { Component, Config, Family, ModelProperties, Role } from '../families/family.js'
import { readJson } from '../files/json.js'
import { isFolder } from '../files/regular_file.js'
import { checkLinks } from '../files/safe_names.js'
import type { Scheduler } from '../schedulers/index.js'
import { classNamed } from '../schedulers/names.js'
import { findGraphs, type Graph, networkClass } from './graphs.js'
import { describeModelFolder } from './other_layouts.js'
import {
  checkHasIndex,
  type FamilyFiles,
  filesOfPart,
  indexFile,
  listShards,
  selectFiles,
} from './selection.js'

/** A checkpoint on disk in the published layout: complete, and with a graph for each of its networks. */
export interface Checkpoint {
  readonly folder: string
  /** The folder that the text encoder is in: `folder`, or another model's. */
  readonly textEncoderFolder: string
  readonly properties: ModelProperties
  readonly files: Readonly<Record<Role, NetworkFiles>>
  /** sha256 of the denoiser's graph. */
  readonly denoiserGraph: string
  /** The content of scheduler/scheduler_config.json. */
  readonly schedulerConfig: Config
  /** The family's choice for a new pipeline, made from `schedulerConfig`. */
  readonly scheduler: Scheduler
  /** What was chosen for the caller. */
  readonly warnings: readonly string[]
}

export interface CheckpointOptions {
  variant?: string | undefined
  trustGraph?: boolean | undefined
  /** The folder of another model, whose text encoder is used. */
  textEncoder?: string | undefined
  /** Whether links may lead anywhere. */
  trustLinks?: boolean | undefined
}

/**
 * Reads the configs of a checkpoint folder and finds its weights and graphs. Reads no weights.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` (pickled weights, graphs not
 * pinned by this package), `ERR_MODEL_INCOMPATIBLE` (another family, or an architecture without a graph),
 * `ERR_UNSAFE_PATH`
 */
export async function readCheckpoint(folder: string, options: CheckpointOptions): Promise<Checkpoint> {
  const root = path.resolve(folder)
  if (!(await isFolder(root))) {
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `there is no model folder ${root}`, { path: root })
  }
  const { trustLinks = false } = options
  if (!trustLinks) await checkLinks(root, [indexFile])
  const present = await readdir(root)
  if (describeModelFolder(present)) checkHasIndex(root, present)
  const index = await readJson(path.join(root, indexFile))
  const family = requireFamily(root, index)
  const textEncoderRoot = path.resolve(options.textEncoder ?? root)
  const apart = textEncoderRoot !== root
  const names = await listFiles(root, filesOfPart(family, apart ? 'withoutTextEncoder' : 'whole'))
  if (!trustLinks) await checkLinks(root, names)

  const { components } = family
  const rootOf = (role: Role) => (role === 'textEncoder' ? textEncoderRoot : root)
  const networks = await Promise.all(
    components.map(async ({ role, folder }) => {
      const config = await readJson(path.join(rootOf(role), folder, 'config.json'))
      return { folder, class: networkClass(folder, index, config), config }
    }),
  )
  const graphs = await findGraphs(root, networks, options.trustGraph === true)
  const warnings: string[] = []
  const { variant } = options
  const weights = apart
    ? await findWeightsApart(root, textEncoderRoot, family, names, options, warnings)
    : await findWeights(root, family, names, variant, warnings)

  const schedulerFile = path.join(root, 'scheduler/scheduler_config.json')
  const schedulerConfig = await readJson(schedulerFile)
  const scheduler = firstScheduler(family, schedulerFile, schedulerConfig)
  if (!classNamed(schedulerConfig._class_name)) {
    warnings.push(
      `scheduler: torchreel has no class ${show(schedulerConfig._class_name)}; ${scheduler.name} uses its config instead`,
    )
  }
  // A graph's architecture is the config with the defaults of its class filled in.
  const configs = networks.map(
    ({ folder, config }, at) => [folder, { ...config, ...(graphs[at] as Graph).architecture }] as const,
  )
  const ofRole = <T>(values: readonly T[], role: Role) =>
    values[components.findIndex((one) => one.role === role)] as T
  const files = (role: Role): NetworkFiles => ({
    graph: ofRole(graphs, role).file,
    weights: ofRole(weights, role),
    float32: [...(ofRole(graphs, role).float32 ?? [])],
  })
  return {
    folder: root,
    textEncoderFolder: textEncoderRoot,
    properties: family.readModel(index, Object.fromEntries(configs)),
    files: { textEncoder: files('textEncoder'), denoiser: files('denoiser'), vae: files('vae') },
    denoiserGraph: ofRole(graphs, 'denoiser').sha256,
    schedulerConfig,
    scheduler,
    warnings,
  }
}

/** A config that no scheduler can be made from is the model's mistake, not the caller's. */
function firstScheduler(family: Family, file: string, config: Config): Scheduler {
  try {
    return family.firstScheduler(config)
  } catch (error) {
    if (!(error instanceof TorchreelError)) throw error
    const { message, parameter, expected, received } = error
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file}: ${message}`, {
      ...(parameter !== undefined && { parameter }),
      ...(expected !== undefined && { expected }),
      received,
      path: file,
      cause: error,
    })
  }
}

/** The names of the files that a checkpoint may consist of, with their folders. */
async function listFiles(root: string, { components, plainFiles }: FamilyFiles): Promise<string[]> {
  const folders = [
    ...Object.keys(plainFiles).map((name) => name.slice(0, name.lastIndexOf('/') + 1)),
    ...components.map(({ folder }) => `${folder}/`),
    'graphs/',
  ]
  const present = async (folder: string) => {
    const names = await readdir(path.join(root, folder)).catch(() => [])
    return names.map((name) => folder + name)
  }
  const names = (await Promise.all([...new Set(folders)].map(present))).flat()
  return names.filter((name) => /\.(json|txt|safetensors|pt|bin|ckpt|pth)$/.test(name))
}

/** As {@link findWeights}, with the text encoder's from another folder. Its files have no variant but fp16. */
async function findWeightsApart(
  root: string,
  textEncoderRoot: string,
  family: Family,
  names: readonly string[],
  { variant, trustLinks }: CheckpointOptions,
  warnings: string[],
): Promise<string[][]> {
  const [rest, alone] = [filesOfPart(family, 'withoutTextEncoder'), filesOfPart(family, 'textEncoder')]
  const aloneNames = await listFiles(textEncoderRoot, alone)
  if (!trustLinks) await checkLinks(textEncoderRoot, aloneNames)
  const [textEncoder] = await findWeights(textEncoderRoot, alone, aloneNames, undefined, warnings)
  const others = await findWeights(root, rest, names, variant, warnings)
  return family.components.map(({ role }) =>
    role === 'textEncoder'
      ? (textEncoder as string[])
      : (others[rest.components.findIndex((one) => one.role === role)] as string[]),
  )
}

/** The safetensors of each network, shards among them, in the order of the family's components. */
async function findWeights(
  root: string,
  family: FamilyFiles,
  names: readonly string[],
  variant: string | undefined,
  warnings: string[],
): Promise<string[][]> {
  const { weights, indexes } = selectFiles(family, root, names, variant)
  const shards = await Promise.all(
    indexes.map(async (index) => listShards(index, await readJson(path.join(root, index)))),
  )
  const found = [...weights, ...shards.flat()]
  return family.components.map(({ folder }: Component) => {
    const files = found.filter((name) => name.startsWith(`${folder}/`))
    if (variant === undefined && files.some((name) => name.includes('.fp16'))) {
      warnings.push(`${folder}: only the fp16 variant is there, so it is used`)
    }
    return files.map((name) => path.join(root, name))
  })
}
