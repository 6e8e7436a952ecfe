import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { show, TorchreelError } from '../errors.js'
import type { Config } from '../families/family.js'
import { readJson } from '../files/json.js'
import { exists } from '../files/regular_file.js'
import { shellWord } from '../files/shell_word.js'
import { packageFolder } from '../package.js'

/** A TorchScript archive, and the values of all config keys that it was made from. */
export interface Graph {
  /** Of the network: `UNet3DConditionModel`. */
  readonly class: string
  readonly file: string
  readonly sha256: string
  readonly architecture: Config
  /** Parameters that stay float32 whatever type the network computes in. */
  readonly float32?: readonly string[]
}

/** What `models/export.py` writes beside the graphs. */
interface GraphManifest {
  /** Values of the config keys that a config.json leaves out, by the network's class. */
  readonly defaults: Readonly<Record<string, Config>>
  readonly graphs: readonly Graph[]
}

/** A network that needs a graph. */
export interface NetworkConfig {
  /** The folder in the checkpoint. */
  readonly folder: string
  /** Undefined: the checkpoint does not say. */
  readonly class: string | undefined
  /** The content of config.json. */
  readonly config: Config
}

const packageGraphs = path.join(packageFolder, 'models', 'graphs')

/**
 * The class of a network: the one that model_index.json loads it with, else the one that its config names
 * (`_class_name` in diffusers, `architectures` in transformers).
 */
export function networkClass(folder: string, index: Config, config: Config): string | undefined {
  const first = (list: unknown, at: number): unknown => (Array.isArray(list) ? list[at] : undefined)
  const named = [first(index[folder], 1), config._class_name, first(config.architectures, 0)]
  return named.find((name) => typeof name === 'string')
}

/**
 * Finds the graph of each network: one of the same class, whose architecture equals the network's config. A graph belongs
 * to an architecture, not to a checkpoint. This package's graphs come first; those in the checkpoint's folder are used
 * only if the caller trusts them, since a TorchScript file is a program.
 *
 * @returns a graph for each of `networks`, in their order
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE`, `ERR_MODEL_UNTRUSTED`, `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`,
 * `ERR_UNSAFE_PATH`
 */
export async function findGraphs(
  root: string,
  networks: readonly NetworkConfig[],
  trustGraph: boolean,
): Promise<Graph[]> {
  const own = path.join(root, 'graphs')
  const folders = trustGraph && exists(own) ? [packageGraphs, own] : [packageGraphs]
  const manifests = await Promise.all(
    folders.map(async (folder) => ({ folder, manifest: await readManifest(root, folder) })),
  )
  const graphs: Graph[] = []
  for (const network of networks) {
    const found = manifests
      .map(({ folder, manifest }) => ({
        folder,
        graph: manifest.graphs.find((graph) => fits(graph, network, manifest)),
      }))
      .find(({ graph }) => graph !== undefined)
    if (!found?.graph) {
      const known = manifests.map(({ manifest }) => manifest)
      throw missingGraph(root, network, known, exists(own) && !trustGraph)
    }
    graphs.push(await checkGraph(found.folder, found.graph))
  }
  return graphs
}

function fits(graph: Graph, network: NetworkConfig, manifest: GraphManifest): boolean {
  return graph.class === network.class && differences(graph, network, manifest).length === 0
}

/** The config keys in which a network differs from a graph of its class, with both values. */
function differences(graph: Graph, { config }: NetworkConfig, { defaults }: GraphManifest): string[] {
  const whole = { ...defaults[graph.class], ...config }
  return Object.entries(graph.architecture).flatMap(([key, value]) =>
    isDeepStrictEqual(whole[key], value) ? [] : [`${key} is ${inJson(whole[key])}, not ${inJson(value)}`],
  )
}

function inJson(value: unknown): string {
  const text = value === undefined ? 'missing' : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

const mostDifferences = 6

/** How a network differs from the graph that it differs least from; undefined: there is no graph of its class. */
function nearest(network: NetworkConfig, manifests: readonly GraphManifest[]): string | undefined {
  const all = manifests.flatMap((manifest) =>
    manifest.graphs
      .filter((graph) => graph.class === network.class)
      .map((graph) => ({ graph, keys: differences(graph, network, manifest) })),
  )
  const least = all.sort((one, other) => one.keys.length - other.keys.length)[0]
  if (!least) return undefined
  const { graph, keys } = least
  const more = keys.length > mostDifferences ? `, and ${keys.length - mostDifferences} more` : ''
  return `The nearest graph is ${graph.file}: ${keys.slice(0, mostDifferences).join('; ')}${more}`
}

async function readManifest(root: string, folder: string): Promise<GraphManifest> {
  const file = path.join(folder, 'manifest.json')
  const { defaults, graphs } = await readJson(file)
  const isObject = (value: unknown) => typeof value === 'object' && value !== null
  const isGraph = (graph: unknown) => isObject(graph) && isObject((graph as Graph).architecture)
  if (!isObject(defaults) || !Array.isArray(graphs) || !graphs.every(isGraph)) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is not a manifest that models/export.py writes`, {
      path: file,
    })
  }
  if (!graphs.every((graph) => typeof graph.class === 'string')) {
    throw new TorchreelError(
      'ERR_MODEL_INCOMPATIBLE',
      `${file} is from an older version of torchreel: export the graphs again with ${exportCommand(root)}`,
      { path: file },
    )
  }
  return { defaults, graphs } as GraphManifest
}

/** The graph with its path, if the file is the one that the manifest names. */
async function checkGraph(folder: string, graph: Graph): Promise<Graph> {
  if (!/^[\w.-]+(\/[\w.-]+)?\.pt$/.test(graph.file) || graph.file.includes('..')) {
    throw new TorchreelError('ERR_UNSAFE_PATH', `${folder}/manifest.json names the file ${show(graph.file)}`)
  }
  const file = path.join(folder, graph.file)
  let content: Buffer
  try {
    if (!(await stat(file)).isFile()) throw new Error('it is not a regular file')
    content = await readFile(file)
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `cannot read the graph ${file}`, {
      path: file,
      cause: error,
    })
  }
  const sha256 = createHash('sha256').update(content).digest('hex')
  if (sha256 === graph.sha256) return { ...graph, file }
  throw new TorchreelError(
    'ERR_MODEL_UNTRUSTED',
    `the graph ${file} is not the one that its manifest names`,
    {
      path: file,
      expected: graph.sha256,
      received: sha256,
    },
  )
}

function missingGraph(
  root: string,
  network: NetworkConfig,
  manifests: readonly GraphManifest[],
  untrusted: boolean,
): TorchreelError {
  const { folder, class: name } = network
  const near = nearest(network, manifests)
  const differs = near === undefined ? '' : ` ${near}.`
  if (untrusted) {
    return new TorchreelError(
      'ERR_MODEL_UNTRUSTED',
      `torchreel has no graph for the architecture of ${folder}.${differs} ${root}/graphs has graphs, but a TorchScript graph is a ` +
        'program: pass trustGraph: true if you made them yourself',
      { path: path.join(root, 'graphs'), parameter: 'trustGraph' },
    )
  }
  const config = path.join(root, folder, 'config.json')
  return new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `torchreel has no graph for the architecture in ${config} (${name ?? 'of no class'}).${differs} If the config is ` +
      `right, export the graph once, with Python and torch: ${exportCommand(root)}  Then pass trustGraph: true`,
    { path: config },
  )
}

function exportCommand(root: string): string {
  return `python3 ${shellWord(path.join(packageFolder, 'models', 'export.py'))} ${shellWord(root)}`
}
