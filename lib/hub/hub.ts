import path from 'node:path'
import { describeModelFile } from '../checkpoint/other_layouts.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import { readPath } from '../files/paths.js'
import { exists, isFolder, whyRefused } from '../files/regular_file.js'
import { checkFileName } from '../files/safe_names.js'
import { packageFolder } from '../package.js'
import { CachedRepository } from './cache.js'
import { endpoint, findHubCache, findToken, hubCacheFolder, isOffline } from './environment.js'
import type { PulledModel, PullOptions } from './pull.js'

export type { DownloadProgress, DownloadStart, PulledModel } from './pull.js'

/** Where to find a model on Hugging Face, and where to keep it. */
export interface HubOptions extends Omit<PullOptions, 'token'> {
  /** A branch, a tag or a commit. @defaultValue `main` */
  revision?: string | undefined
  /** The weight files: 'fp16' chooses `*.fp16.safetensors`. @defaultValue files without a variant, else fp16 */
  variant?: string | undefined
  /** The cache, shared with Python. @defaultValue `HF_HUB_CACHE`, else Hugging Face's default: `HF_HOME/hub`, else `~/.cache/huggingface/hub` */
  cacheDir?: string | URL | undefined
  /** For gated and private models; false sends none. @defaultValue `HF_TOKEN`, else the token that `hf auth login` stored */
  token?: string | false | undefined
  /** Use the cache only, download nothing. @defaultValue `HF_HUB_OFFLINE`; if it is not set, false */
  localFilesOnly?: boolean | undefined
}

/** The name of the model in this package. Write `./shapes` for a folder of that name. */
export const embeddedModel = 'shapes'
const embeddedFolder = path.join(packageFolder, 'models', 'shapes')

/**
 * The folder of a model: the folder itself, this package's own for `shapes`, or for `owner/name` its snapshot in the Hugging
 * Face cache. An incomplete snapshot is downloaded first; a complete one is used without asking for a newer one, which
 * {@link pullModel} does.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_MODEL_NOT_FOUND`, and the errors of {@link pullModel}
 */
export async function resolveModel(model: string | URL, options: HubOptions = {}): Promise<string> {
  const name = modelName(model)
  const folder = await localModel(name)
  if (folder !== undefined) return folder
  const { repository, revision, variant } = findPlace(name, options)
  try {
    return await repository.wholeSnapshot(revision, variant, options.part)
  } catch (error) {
    const offline = isOffline()
    if (!(error instanceof TorchreelError)) throw error
    if (!offline && options.localFilesOnly !== true) return (await pullModel(name, options)).folder
    const why = offline ? 'HF_HUB_OFFLINE is set' : 'localFilesOnly is true'
    throw new TorchreelError(error.code, `${error.message}; nothing is downloaded because ${why}`, {
      path: repository.folder,
      cause: error,
    })
  }
}

/**
 * The folder of a model on this machine; undefined if the name can only be that of a model on Hugging Face.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND` or `ERR_MODEL_INCOMPATIBLE` for all other names
 */
export async function localModel(model: string): Promise<string | undefined> {
  if (model === embeddedModel) return embeddedFolder
  if (await isFolder(model)) return path.resolve(model)
  if (exists(model)) {
    const file = path.resolve(model)
    const kind = describeModelFile(file)
    throw new TorchreelError(
      kind ? 'ERR_MODEL_INCOMPATIBLE' : 'ERR_MODEL_NOT_FOUND',
      `${file} ${kind ?? "is a file, not a model's folder: a folder in the diffusers layout has model_index.json"}`,
      { path: file, parameter: 'model' },
    )
  }
  if (!isModelId(model)) {
    const folder = path.resolve(model)
    const refused = whyRefused(model)
    throw new TorchreelError(
      'ERR_MODEL_NOT_FOUND',
      refused !== undefined
        ? `${folder} ${refused}`
        : `there is no model folder ${folder}, and ${JSON.stringify(model)} is not the name of a model on Hugging Face ` +
            '(owner/name)',
      { path: folder },
    )
  }
  return undefined
}

/** The snapshot of `owner/name` in the cache, if it is complete. */
export async function cachedModel(
  model: string,
  options: Pick<HubOptions, 'revision' | 'variant' | 'cacheDir'> = {},
): Promise<string | undefined> {
  if (options.cacheDir === undefined && findHubCache() === undefined) return undefined
  const { repository, revision, variant } = findPlace(checkModelId(model), options)
  return repository.wholeSnapshot(revision, variant).catch((error) => {
    if (error instanceof TorchreelError) return undefined
    throw error
  })
}

/**
 * Brings the cache up to date with a revision on Hugging Face: downloads the files that a checkpoint needs and the cache
 * lacks, resumes interrupted downloads, and checks each file's hash. Several processes may do so at once.
 *
 * @throws TorchreelError `ERR_DOWNLOAD_FAILED`, `ERR_MODEL_NOT_FOUND` (also gated and private), `ERR_MODEL_UNTRUSTED`
 * (pickles only), `ERR_MODEL_INCOMPATIBLE` (another kind of model), `ERR_UNSAFE_PATH`, `ERR_INVALID_ARGUMENT`
 */
export async function pullModel(model: string, options: HubOptions = {}): Promise<PulledModel> {
  const { repository, revision, variant } = findPlace(checkModelId(model), options)
  if (isOffline()) {
    throw new TorchreelError(
      'ERR_DOWNLOAD_FAILED',
      `${model} is not downloaded because HF_HUB_OFFLINE is set`,
      { url: endpoint().href },
    )
  }
  const { pullRevision } = await import('./pull.js')
  return pullRevision(repository, revision, variant, { ...options, token: await findToken(options.token) })
}

/**
 * A model as its name or path: file URLs and `~` are resolved.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function modelName(model: string | URL): string {
  const name = readPath(model)
  if (name !== undefined) return name
  throw invalidArgument(
    'model',
    "a checkpoint's folder, a model on Hugging Face (owner/name) or 'shapes'",
    model,
  )
}

// ---- names and options ----------------------------------------------------------------------------------------------

function isModelId(model: string): boolean {
  return model.length <= 96 && /^\w[\w.-]*\/\w[\w.-]*$/.test(model) && !/--|\.\.|[.-](?=\/|$)/.test(model)
}

/** @throws TorchreelError `ERR_INVALID_ARGUMENT` with this parameter, if it is not owner/name */
export function checkModelId(model: string, parameter = 'model'): string {
  if (typeof model === 'string' && isModelId(model)) return model
  throw invalidArgument(parameter, 'the name of a model on Hugging Face, owner/name', model)
}

/** Checks the options, and gives a model's place in the cache. */
function findPlace(model: string, { revision = 'main', variant, cacheDir }: HubOptions) {
  if (typeof revision !== 'string' || !/^[\w./-]+$/.test(revision) || !isSafe(revision)) {
    throw invalidArgument('revision', 'a branch, a tag or a commit', revision)
  }
  if (variant !== undefined && !/^\w+$/.test(variant))
    throw invalidArgument('variant', "a word such as 'fp16'", variant)
  const given = cacheDir === undefined ? hubCacheFolder() : readPath(cacheDir)
  if (given === undefined) throw invalidArgument('cacheDir', 'a folder', cacheDir)
  const folder = path.resolve(given)
  return { repository: new CachedRepository(model, folder), revision, variant }
}

function isSafe(name: string): boolean {
  try {
    checkFileName(name)
    return true
  } catch {
    return false
  }
}
