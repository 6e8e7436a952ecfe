import { stat } from 'node:fs/promises'
import path from 'node:path'
import {
  checkHasIndex,
  indexFile,
  listShards,
  selectFiles,
  type WantedPart,
} from '../checkpoint/selection.js'
import { TorchreelError } from '../errors.js'
import type { Family } from '../families/family.js'
import { readJson } from '../files/json.js'
import { freeBytes } from '../machine/machine.js'
import { type CachedRepository, readWantedFiles } from './cache.js'
import { download, isSystemError, type Patience, partialBytes, patience, persist } from './download.js'
import { endpoint } from './environment.js'
import { bodyOf, get, head, Interruption, Refusal } from './http.js'
import { RemoteModel, type Server } from './remote_model.js'

/** The progress of a download. */
export interface DownloadProgress {
  /** The file that is being downloaded, such as `unet/diffusion_pytorch_model.safetensors`. */
  readonly file: string
  /** Bytes of all files that have arrived. */
  readonly bytes: number
  /** Bytes of all files. */
  readonly totalBytes: number
}

/** A download that is about to begin. */
export interface DownloadStart {
  /** Such as `ali-vilab/text-to-video-ms-1.7b`. */
  readonly model: string
  readonly commit: string
  /** The licence in the model card, such as `cc-by-nc-4.0`; undefined: it names none. */
  readonly license: string | undefined
  /** Bytes to download: all files, those of several shards among them. */
  readonly bytes: number
  /** Bytes that are free on the cache's disk. */
  readonly freeBytes: number
}

/** A model in the cache. */
export interface PulledModel {
  /** The snapshot: a checkpoint in the published layout. */
  readonly folder: string
  readonly commit: string
  readonly license: string | undefined
}

/** How a model is downloaded. */
export interface PullOptions {
  token?: string | undefined
  /** Aborts a download; the call rejects with `signal.reason`. The next call resumes with the bytes that have arrived. */
  signal?: AbortSignal | undefined
  /** Called as bytes arrive, at most ten times a second. What it throws ends the download. */
  onProgress?: ((progress: DownloadProgress) => void) | undefined
  /** Called once before the weights are downloaded, with their licence. */
  onDownload?: ((start: DownloadStart) => void) | undefined
  /** @internal */
  part?: WantedPart | undefined
  /** @internal Called with the model's family before its weights are downloaded. What it throws ends the download. */
  checkFamily?: ((family: Family) => void) | undefined
  /** @internal */
  patience?: Patience | undefined
}

/** Downloads the files of one revision that a checkpoint needs and the cache lacks, and records the revision in the cache. */
export async function pullRevision(
  repository: CachedRepository,
  revision: string,
  variant: string | undefined,
  options: PullOptions,
): Promise<PulledModel> {
  const pull = new Pull(repository, revision, variant, options)
  try {
    return await pull.run()
  } catch (error) {
    options.signal?.throwIfAborted()
    if (error instanceof Refusal) throw refused(repository.id, revision, error, options.token !== undefined)
    if (error instanceof Interruption || isSystemError(error)) {
      throw failure(pull.page, `could not download ${repository.id}: ${error.message}`, error)
    }
    throw error
  }
}

class Pull {
  /** The model's web page. */
  readonly page: URL
  readonly #repository: CachedRepository
  readonly #revision: string
  readonly #variant: string | undefined
  readonly #options: PullOptions
  readonly #patience: Patience
  #bytes = 0
  #totalBytes = 0
  /** Whether `totalBytes` counts all files that are known so far: progress is reported from then on. */
  #hasTotal = false
  #reported = 0

  constructor(
    repository: CachedRepository,
    revision: string,
    variant: string | undefined,
    options: PullOptions,
  ) {
    this.page = new URL(`${endpoint().href.replace(/\/$/, '')}/${repository.id}`)
    this.#repository = repository
    this.#revision = revision
    this.#variant = variant
    this.#options = options
    this.#patience = options.patience ?? patience
  }

  async run(): Promise<PulledModel> {
    const remote = await this.#describe()
    const { commit, license } = remote
    const repository = this.#repository
    const snapshot = repository.snapshot(commit)
    const { names } = remote
    // The index comes first, on its own: it tells the family, and with it the files.
    const { part, checkFamily } = this.#options
    const first = part && 'textEncoderOf' in part ? [] : [indexFile]
    if (first.length > 0) checkHasIndex(repository.id, names)
    const missingIndex = await this.#count(remote, first)
    await this.#getAll(remote, first)
    const wanted = await readWantedFiles(repository.id, snapshot, part, checkFamily)
    const { plain, weights, indexes } = selectFiles(wanted, repository.id, names, this.#variant)

    // The lists of shards come next, so that the size is known before the weights are downloaded.
    const missingIndexes = missingIndex + (await this.#count(remote, indexes))
    await this.#getAll(remote, indexes)
    const shards: string[] = []
    for (const index of indexes) shards.push(...listShards(index, await readJson(path.join(snapshot, index))))
    const rest = [...plain.filter((name) => name !== indexFile), ...shards, ...weights]
    const missing = await this.#count(remote, rest)
    if (missing + missingIndexes > 0) {
      const free = await freeBytes(repository.folder)
      const bytes = missing + missingIndexes
      this.#options.onDownload?.({ model: repository.id, commit, license, bytes, freeBytes: free })
      this.#checkSpace(missing, free)
    }
    this.#hasTotal = true
    await this.#getAll(remote, rest)
    await repository.setCommit(this.#revision, commit)
    return { folder: snapshot, commit, license }
  }

  /** Asks for the revision's commit and files. */
  async #describe(): Promise<RemoteModel> {
    const api = new URL(`${endpoint().href.replace(/\/$/, '')}/api/models/${this.#repository.id}`)
    const { signal, token } = this.#options
    const { stallMs } = this.#patience
    const server: Server = {
      api: async (path) =>
        JSON.parse(await persist(() => this.#text(new URL(api.href + path)), this.#patience, signal)),
      head: (commit, name) =>
        persist(() => head(this.#urlOf(commit, name), { token, signal, stallMs }), this.#patience, signal),
    }
    try {
      return await RemoteModel.ask(server, this.#revision)
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error
      throw failure(api, `${api.origin} did not answer with a model's description: ${error.message}`, error)
    }
  }

  #urlOf(commit: string, name: string): URL {
    const path = name.split('/').map(encodeURIComponent).join('/')
    return new URL(`${this.page.href}/resolve/${commit}/${path}`)
  }

  async #text(url: URL): Promise<string> {
    const { signal } = this.#options
    const response = await get(url, { token: this.#options.token, signal, stallMs: this.#patience.stallMs })
    const chunks: Buffer[] = []
    let length = 0
    for await (const chunk of bodyOf(response, url, signal)) {
      chunks.push(chunk)
      length += chunk.length
      if (length > 2 ** 25) throw failure(url, `${url.origin} sent an answer that is too long`)
    }
    return Buffer.concat(chunks).toString()
  }

  /** Adds files to the total. Returns the number of bytes to download. */
  async #count(remote: RemoteModel, names: readonly string[]): Promise<number> {
    const { id: repository } = this.#repository
    let missing = 0
    for (const name of names) {
      const { size, hash } = await remote.file(repository, name)
      this.#totalBytes += size
      if (await this.#isThere(remote, name)) continue
      if (await isWhole(this.#repository.blob(hash), size)) continue
      missing += size - Math.min(size, await partialBytes(this.#repository.blob(hash)))
    }
    return missing
  }

  #checkSpace(needed: number, free: number): void {
    if (needed <= free) return
    const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`
    throw new TorchreelError(
      'ERR_DOWNLOAD_FAILED',
      `${this.#repository.id} needs ${gigabytes(needed)}, and the disk of ${this.#repository.folder} has ` +
        `${gigabytes(free)} left; choose another place with cacheDir or HF_HUB_CACHE`,
      { path: this.#repository.folder, url: this.page.href },
    )
  }

  async #getAll(remote: RemoteModel, names: readonly string[]): Promise<void> {
    const { commit } = remote
    const { id: repository } = this.#repository
    for (const name of names) {
      const { size, hash } = await remote.file(repository, name)
      if (!(await this.#isThere(remote, name))) {
        await download({
          url: this.#urlOf(commit, name),
          file: this.#repository.blob(hash),
          size,
          hash,
          token: this.#options.token,
          signal: this.#options.signal,
          patience: this.#patience,
          onBytes: (bytes) => this.#report(name, bytes, false),
        })
        await this.#repository.link(commit, name, hash)
      }
      this.#report(name, size, true)
      this.#bytes += size
    }
  }

  async #isThere(remote: RemoteModel, name: string): Promise<boolean> {
    const { size } = await remote.file(this.#repository.id, name)
    return isWhole(path.join(this.#repository.snapshot(remote.commit), name), size)
  }

  #report(file: string, bytes: number, always: boolean): void {
    const now = performance.now()
    if (!this.#hasTotal || (!always && now - this.#reported < 100)) return
    this.#reported = now
    this.#options.onProgress?.({ file, bytes: this.#bytes + bytes, totalBytes: this.#totalBytes })
  }
}

/** The error for a refusal, with what to do. */
function refused(
  model: string,
  revision: string,
  { status, code }: Refusal,
  hasToken: boolean,
): TorchreelError {
  const page = `${endpoint().origin}/${model}`
  const access = hasToken
    ? 'The token that was sent does not give access to it'
    : 'Give a token that has access: the option token, HF_TOKEN, or `hf auth login`'
  let reason: string
  if (code === 'RevisionNotFound') reason = `${model} has no revision ${revision}`
  else if (code === 'GatedRepo') reason = `${model} is gated: accept its conditions at ${page}. ${access}`
  else if (status === 404 || code === 'RepoNotFound')
    reason = `there is no model ${page}, or it is private. ${access}`
  else if (status === 401 || status === 403) reason = `${page} needs access rights (${status}). ${access}`
  else return failure(new URL(page), `${page} was refused with ${status}`)
  return new TorchreelError('ERR_MODEL_NOT_FOUND', reason, { url: page, received: status })
}

function failure(url: URL, message: string, cause?: unknown): TorchreelError {
  return new TorchreelError('ERR_DOWNLOAD_FAILED', message, { url: url.href, cause })
}

async function isWhole(file: string, size: number): Promise<boolean> {
  return stat(file).then(
    (status) => status.size === size,
    () => false,
  )
}
