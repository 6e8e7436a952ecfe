import type { IncomingHttpHeaders } from 'node:http'
import { TorchreelError } from '../errors.js'
import { checkFileName } from '../files/safe_names.js'
import { isCommit } from './cache.js'
import { Refusal } from './http.js'

/** A file, as the server describes it. */
export interface RemoteFile {
  /** Bytes. */
  readonly size: number
  /** Hex: the sha256 of the content, or the 40 digits of its git blob. */
  readonly hash: string
}

/** What a server is asked. Network failures are retried there. */
export interface Server {
  /** Of `GET /api/models/ID/…`, parsed. */
  api(path: string): Promise<unknown>
  /** Of `HEAD /ID/resolve/COMMIT/NAME`, by the first answer that tells a hash. */
  head(commit: string, name: string): Promise<IncomingHttpHeaders>
}

/**
 * One revision of a model on a server. Hugging Face describes all files in one answer. Mirrors may give the names only: then
 * the files that are needed are looked up in the tree of the commit, else one by one. Entries that are not needed are not
 * looked at.
 */
export class RemoteModel {
  readonly commit: string
  /** The licence in the model card; undefined: it names none. */
  readonly license: string | undefined
  readonly names: readonly string[]
  readonly #server: Server
  readonly #files = new Map<string, Partial<RemoteFile>>()
  #askedTree = false

  /** @throws any error if the answer is malformed */
  private constructor(server: Server, info: ModelInfo) {
    if (typeof info.sha !== 'string' || !isCommit(info.sha)) throw new TypeError('it names no commit')
    this.#server = server
    this.commit = info.sha
    this.license = licenseOf(info)
    for (const { rfilename, size, blobId, lfs } of info.siblings) {
      if (typeof rfilename === 'string') this.#files.set(rfilename, described(size, blobId, lfs))
    }
    this.names = [...this.#files.keys()]
  }

  /** Asks for a revision's commit and files. Throws any error if the answer is malformed. */
  static async ask(server: Server, revision: string): Promise<RemoteModel> {
    const info = await server.api(`/revision/${encodeURIComponent(revision)}?blobs=true`)
    return new RemoteModel(server, info as ModelInfo)
  }

  /**
   * Size and hash of a file.
   *
   * @throws TorchreelError `ERR_UNSAFE_PATH`, `ERR_MODEL_CORRUPT` for a name that is not in the repository,
   * `ERR_DOWNLOAD_FAILED` if the server tells neither way
   */
  async file(model: string, name: string): Promise<RemoteFile> {
    checkFileName(name)
    const known = this.#files.get(name)
    if (!known) {
      const message = `${model} lists ${name} as a shard, and has no such file`
      throw new TorchreelError('ERR_MODEL_CORRUPT', message)
    }
    if (isWhole(known)) return known
    await this.#readTree()
    const inTree = this.#files.get(name) as Partial<RemoteFile>
    if (isWhole(inTree)) return inTree
    const headers = await this.#server.head(this.commit, name)
    const asked = { ...inTree, ...describedByHeaders(headers) }
    this.#files.set(name, asked)
    if (isWhole(asked)) return asked
    const lacks = [asked.size === undefined && 'size', asked.hash === undefined && 'hash'].filter(Boolean)
    const etag = headers['x-linked-etag'] ?? headers.etag ?? 'none'
    throw new TorchreelError(
      'ERR_DOWNLOAD_FAILED',
      `the server tells no ${lacks.join(' and no ')} of ${name}: not in the model's description, not in its tree, and its ` +
        `ETag is ${etag}`,
      { expected: 'size and hash of each file, as Hugging Face tells them', received: etag },
    )
  }

  async #readTree(): Promise<void> {
    if (this.#askedTree) return
    this.#askedTree = true
    let tree: unknown
    try {
      tree = await this.#server.api(`/tree/${this.commit}?recursive=true`)
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof SyntaxError)) throw error
    }
    for (const { path, size, oid, lfs } of Array.isArray(tree) ? (tree as TreeEntry[]) : []) {
      const known = typeof path === 'string' ? this.#files.get(path) : undefined
      if (known && !isWhole(known)) this.#files.set(path as string, described(size, oid, lfs))
    }
  }
}

interface Lfs {
  readonly sha256?: unknown
  readonly oid?: unknown
}

/** The answer to `GET /api/models/ID/revision/REVISION?blobs=true`. */
interface ModelInfo {
  readonly sha: unknown
  readonly cardData?: { readonly license?: unknown; readonly license_name?: unknown }
  readonly tags?: readonly unknown[]
  readonly siblings: readonly { rfilename: unknown; size?: unknown; blobId?: unknown; lfs?: Lfs }[]
}

/** An entry of the answer to `GET /api/models/ID/tree/COMMIT?recursive=true`. */
interface TreeEntry {
  readonly path?: unknown
  readonly size?: unknown
  readonly oid?: unknown
  readonly lfs?: Lfs
}

function isWhole(file: Partial<RemoteFile>): file is RemoteFile {
  return file.size !== undefined && file.hash !== undefined
}

/** An LFS file is known by the sha256 of its content, any other by the hash of its git blob. */
function described(size: unknown, blob: unknown, lfs: Lfs | undefined): Partial<RemoteFile> {
  const hash = lfs ? (lfs.sha256 ?? lfs.oid) : blob
  const isHash = typeof hash === 'string' && (lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hash)
  const isSize = Number.isSafeInteger(size) && (size as number) >= 0
  return { ...(isSize && { size: size as number }), ...(isHash && { hash }) }
}

/** Hugging Face's own headers tell of the file behind a redirect, the others of the answer itself. */
function describedByHeaders(headers: IncomingHttpHeaders): Partial<RemoteFile> {
  const linked = 'x-linked-etag' in headers
  const etag = `${headers['x-linked-etag'] ?? headers.etag ?? ''}`
  const length = linked ? (headers['x-linked-size'] ?? headers['content-length']) : headers['content-length']
  const hash = hashInEtag(etag)
  const size = Number(length)
  return {
    ...(length !== undefined && Number.isSafeInteger(size) && size >= 0 && { size }),
    ...(hash !== undefined && { hash }),
  }
}

/** The sha256 or git hash in an ETag, strong or weak. */
export function hashInEtag(etag: string): string | undefined {
  return /^(?:W\/)?"?([0-9a-f]{64}|[0-9a-f]{40})"?$/.exec(etag)?.[1]
}

function licenseOf({ cardData, tags }: ModelInfo): string | undefined {
  const tag = tags?.find((one) => typeof one === 'string' && one.startsWith('license:')) as string | undefined
  const { license, license_name: name } = cardData ?? {}
  const named = license === 'other' && name ? name : (license ?? tag?.slice('license:'.length))
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a server's words are printed on a terminal
  return named?.toString().replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}
