import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { readCheckpoint } from '../checkpoint/checkpoint.js'
import { findVariants, indexFile } from '../checkpoint/selection.js'
import { TorchreelError, type TorchreelErrorCode } from '../errors.js'
import { findFamily } from '../families/families.js'
import { readJson } from '../files/json.js'
import { readPath } from '../files/paths.js'
import { CachedRepository } from './cache.js'
import { findHubCache } from './environment.js'

/** A text-to-video model in the Hugging Face cache. */
export interface CachedModel {
  /** `owner/name`. */
  readonly model: string
  readonly commit: string
  /** The branches and tags that name this commit. */
  readonly revisions: readonly string[]
  readonly folder: string
  /** Bytes of its files. */
  readonly bytes: number
  /** The variants that torchreel can run; '' is the one without a name. */
  readonly variants: readonly string[]
  /** Why torchreel can run none of them. */
  readonly problem: { readonly code: TorchreelErrorCode; readonly message: string } | undefined
}

/**
 * Lists the text-to-video models in the cache, and whether torchreel can run them: files complete, weights in safetensors,
 * graphs known for the architecture.
 *
 * @param cacheDir as for `pullModel`; without a cache there are no models
 */
export async function listModels(
  cacheDir: string | URL | undefined = findHubCache(),
): Promise<CachedModel[]> {
  const models: CachedModel[] = []
  const folder = readPath(cacheDir)
  if (folder === undefined) return models
  for (const name of (await readdir(folder).catch((): string[] => [])).sort()) {
    const id = /^models--(.+?)--(.+)$/.exec(name)
    if (!id) continue
    const repository = new CachedRepository(`${id[1]}/${id[2]}`, path.resolve(folder))
    for (const commit of (await readdir(repository.snapshot('')).catch((): string[] => [])).sort()) {
      const found = await inspect(repository, commit)
      if (found) models.push(found)
    }
  }
  return models
}

async function inspect(repository: CachedRepository, commit: string): Promise<CachedModel | undefined> {
  const folder = repository.snapshot(commit)
  const index = await readJson(path.join(folder, indexFile)).catch((): Record<string, unknown> => ({}))
  const family = findFamily(index)
  if (!family) return undefined

  const files = await repository.files(commit)
  const sizes = await Promise.all(
    files.map(async (file) => {
      const status = await stat(path.join(folder, file))
      return status.isFile() ? status.size : 0
    }),
  )
  const variants: string[] = []
  let problem: CachedModel['problem']
  for (const variant of findVariants(family, files)) {
    try {
      await repository.checkWhole(commit, variant || undefined)
      await readCheckpoint(folder, { variant: variant || undefined })
      variants.push(variant)
    } catch (error) {
      if (!(error instanceof TorchreelError)) throw error
      problem ??= { code: error.code, message: error.message }
    }
  }
  return {
    model: repository.id,
    commit,
    revisions: await repository.listRevisions(commit),
    folder,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    variants,
    problem: variants.length > 0 ? undefined : problem,
  }
}
