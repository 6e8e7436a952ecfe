import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { TorchreelError } from '../errors.js'
import { readJson } from '../files/json.js'
import { packageFolder } from '../package.js'
import type { Component } from './checkpoint.js'

/** A TorchScript archive, and the values of all config keys that it was made from. */
export interface Graph {
  readonly component: Component
  readonly file: string
  readonly sha256: string
  readonly architecture: Readonly<Record<string, unknown>>
}

/** What `models/export.py` writes beside the graphs. */
interface GraphManifest {
  /** Values of config keys that a config.json leaves out. */
  readonly defaults: Record<Component, Record<string, unknown>>
  readonly graphs: readonly Graph[]
}

const packageGraphs = path.join(packageFolder, 'models', 'graphs')

/**
 * A graph belongs to an architecture, not to a checkpoint: it is the one whose architecture equals the config. This
 * package's own graphs come first; a checkpoint's only if the caller trusts them, since a TorchScript file is a program.
 */
export async function findGraphs(
  root: string,
  configs: Record<Component, Record<string, unknown>>,
  trustGraph: boolean,
): Promise<Record<Component, Graph>> {
  const own = path.join(root, 'graphs')
  const folders = trustGraph && existsSync(own) ? [packageGraphs, own] : [packageGraphs]
  const manifests = await Promise.all(
    folders.map(async (folder) => ({
      folder,
      manifest: await readManifest(path.join(folder, 'manifest.json')),
    })),
  )
  const find = async (component: Component): Promise<Graph> => {
    for (const { folder, manifest } of manifests) {
      const graph = manifest.graphs.find(
        (candidate) =>
          candidate.component === component &&
          Object.entries(candidate.architecture).every(([key, value]) =>
            isDeepStrictEqual({ ...manifest.defaults[component], ...configs[component] }[key], value),
          ),
      )
      if (graph) return pinned(folder, graph)
    }
    throw missingGraph(root, component, existsSync(own) && !trustGraph)
  }
  return { text_encoder: await find('text_encoder'), unet: await find('unet'), vae: await find('vae') }
}

async function readManifest(file: string): Promise<GraphManifest> {
  const { defaults, graphs } = await readJson(file)
  const isObject = (value: unknown) => typeof value === 'object' && value !== null
  const isGraph = (graph: unknown) => isObject(graph) && isObject((graph as Graph).architecture)
  if (isObject(defaults) && Array.isArray(graphs) && graphs.every(isGraph)) {
    return { defaults, graphs } as GraphManifest
  }
  throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is not what models/export.py writes`, { path: file })
}

/** The graph with its path, if the file is the one that the manifest names. */
async function pinned(folder: string, graph: Graph): Promise<Graph> {
  if (!/^[\w.-]+(\/[\w.-]+)?\.pt$/.test(graph.file) || graph.file.includes('..')) {
    throw new TorchreelError(
      'ERR_UNSAFE_PATH',
      `${folder}/manifest.json names the file ${JSON.stringify(graph.file)}`,
    )
  }
  const file = path.join(folder, graph.file)
  let content: Buffer
  try {
    if (!(await stat(file)).isFile()) throw new Error('it is not a regular file')
    content = await readFile(file)
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `the graph ${file} cannot be read`, {
      path: file,
      cause: error,
    })
  }
  const sha256 = createHash('sha256').update(content).digest('hex')
  if (sha256 === graph.sha256) return { ...graph, file }
  throw new TorchreelError('ERR_MODEL_UNTRUSTED', `the graph ${file} is not the one its manifest names`, {
    path: file,
    expected: graph.sha256,
    received: sha256,
  })
}

function missingGraph(root: string, component: Component, untrusted: boolean): TorchreelError {
  if (untrusted) {
    return new TorchreelError(
      'ERR_MODEL_UNTRUSTED',
      `${component} has an architecture that this package has no graph for. ${root}/graphs has graphs, but a ` +
        'TorchScript graph is a program: pass trustGraph: true if you made them yourself',
      { path: path.join(root, 'graphs'), parameter: 'trustGraph' },
    )
  }
  const script = path.join(packageFolder, 'models', 'export.py')
  return new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `no graph was exported for the architecture in ${root}/${component}/config.json. ` +
      `Export it once, with Python and torch: python3 ${script} ${root}  — then pass trustGraph: true`,
    { path: path.join(root, component, 'config.json') },
  )
}
