import { createHash, type Hash, randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { types } from 'node:util'
import { TorchreelError } from '../errors.js'
import { flush } from '../files/flush.js'
import { identityPattern, isDead, ownIdentity } from '../files/process_identity.js'
import { bodyOf, get, type HttpRequest, Interruption } from './http.js'

/** How long a download waits, and how often it retries. */
export interface Patience {
  /** Milliseconds without a byte until a connection is given up. */
  readonly stallMs: number
  /** Milliseconds before the first retry; each next one waits twice as long. */
  readonly retryMs: number
  /** Retries in a row without progress. */
  readonly retries: number
}

export const patience: Patience = { stallMs: 30_000, retryMs: 500, retries: 5 }

/** A file to download, and its expected content. */
export interface Download extends Omit<HttpRequest, 'headers' | 'stallMs'> {
  readonly url: URL
  /** The path to write. */
  readonly file: string
  /** Bytes. */
  readonly size: number
  /** Hex: the sha256 of the content, or the 40 digits of its git blob. Undefined: the reader of the file checks it. */
  readonly hash: string | undefined
  readonly patience: Patience
  /** Gets the number of bytes that have arrived; what it throws ends the download. */
  readonly onBytes: (bytes: number) => void
}

/**
 * Downloads a file, which appears under its name only when it is complete and has the right hash.
 *
 * Until then it is called `FILE.torchreel-HOST-PID-START-RANDOM.incomplete`, after the process that writes it. To resume
 * the file of a dead process or of a failed attempt (`FILE.torchreel.incomplete`) is one rename, which only one process
 * can win, so no lock can be left behind. If a living process downloads the file, this call waits for it.
 *
 * @throws TorchreelError `ERR_DOWNLOAD_FAILED`; Refusal; `signal.reason`; what `onBytes` throws
 */
export async function download(job: Download): Promise<void> {
  const { file, size, signal, onBytes } = job
  try {
    await mkdir(path.dirname(file), { recursive: true })
    while ((await fileSize(file)) !== size) {
      signal?.throwIfAborted()
      const partial = await claim(file)
      if (partial === undefined) {
        // Another process is downloading it.
        onBytes(await partialBytes(file))
        await pause(100 + Math.random() * 200, signal)
        continue
      }
      // Another process may have finished the file between the two checks above.
      if ((await fileSize(file)) === size) {
        await rm(partial, { force: true })
        break
      }
      try {
        await fill(partial, job)
        await rename(partial, file)
      } catch (error) {
        await rename(partial, `${file}.torchreel.incomplete`).catch(() => {})
        throw error
      }
    }
    onBytes(size)
  } catch (error) {
    signal?.throwIfAborted()
    throw error instanceof Interruption || isSystemError(error) ? failed(job, error.message, error) : error
  }
}

/** The number of bytes of a file that earlier attempts or another process have downloaded. */
export async function partialBytes(file: string): Promise<number> {
  const partials = await listPartials(file)
  return Math.max(0, ...partials.map((partial) => partial.bytes))
}

/**
 * Repeats an attempt until it ends without an Interruption. The count of retries starts again when `progress` has grown by
 * a mebibyte: a large file may survive many cuts, and a server that sends nothing is given up.
 */
export async function persist<T>(
  attempt: () => Promise<T>,
  { retryMs, retries }: Patience,
  signal: AbortSignal | undefined,
  progress: () => number = () => 0,
): Promise<T> {
  for (let failures = 0; ; failures++) {
    const before = progress()
    try {
      return await attempt()
    } catch (error) {
      signal?.throwIfAborted()
      if (!(error instanceof Interruption)) throw error
      if (progress() - before >= 2 ** 20) failures = 0
      if (failures >= retries) throw error
    }
    await pause(retryMs * 2 ** failures, signal)
  }
}

async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(milliseconds, undefined, { signal }).catch(() => signal?.throwIfAborted())
}

// ---- partial files --------------------------------------------------------------------------------------------------

interface PartialFile {
  readonly path: string
  readonly bytes: number
  /** Whether a process that may be alive is writing it. */
  readonly inUse: boolean
}

/** A partial file untouched for this long is abandoned, even if its process lives: its worker may have ended. */
const silentMs = 10 * 60_000

async function listPartials(file: string): Promise<PartialFile[]> {
  const prefix = `${path.basename(file)}.torchreel`
  const owned = new RegExp(`^-(${identityPattern})-[0-9a-f]{12}\\.incomplete$`)
  const found: PartialFile[] = []
  for (const name of await readdir(path.dirname(file)).catch((): string[] => [])) {
    if (!name.startsWith(prefix)) continue
    const rest = name.slice(prefix.length)
    const owner = owned.exec(rest)?.[1]
    if (owner === undefined && rest !== '.incomplete') continue
    const partial = path.join(path.dirname(file), name)
    const status = await stat(partial).catch(() => undefined)
    if (!status) continue
    // A rename is a sign of life too, and changes only ctime.
    const silent = Date.now() - Math.max(status.mtimeMs, status.ctimeMs) > silentMs
    found.push({ path: partial, bytes: status.size, inUse: owner !== undefined && !silent && !isDead(owner) })
  }
  return found.sort((a, b) => b.bytes - a.bytes)
}

/** Claims a partial file: an abandoned one, else a new and empty one. Undefined while another process uses one. */
async function claim(file: string): Promise<string | undefined> {
  const own = `${file}.torchreel-${ownIdentity}-${randomBytes(6).toString('hex')}.incomplete`
  const partials = await listPartials(file)
  if (partials.some((partial) => partial.inUse)) return undefined
  for (const partial of partials) {
    const taken = await rename(partial.path, own).then(
      () => true,
      () => false,
    )
    if (taken) return own
  }
  await (await open(own, 'wx')).close()
  // Two processes that checked at the same moment each made one: the one that sees the other gives way and tries later.
  const rivals = (await listPartials(file)).filter((partial) => partial.inUse && partial.path !== own)
  if (rivals.length === 0) return own
  await rm(own, { force: true })
  return undefined
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

/** Completes a partial file, checks it and flushes it to the disk. */
async function fill(partial: string, job: Download): Promise<void> {
  const handle = await open(partial, 'r+')
  try {
    const filling = new Filling(handle, job)
    await filling.keep()
    if (await filling.run()) return
    // The bytes of an earlier attempt may be wrong: try once more, from the start.
    if (filling.kept && (await new Filling(handle, job).run())) return
    await rm(partial, { force: true })
    throw failed(job, `${job.hash?.length === 64 ? 'sha256' : 'git hash'} mismatch, expected ${job.hash}`)
  } finally {
    await handle.close()
  }
}

class Filling {
  readonly #handle: FileHandle
  readonly #job: Download
  #position = 0
  #hash: Hash
  /** Whether bytes of an earlier attempt are part of the file. */
  kept = false

  constructor(handle: FileHandle, job: Download) {
    this.#handle = handle
    this.#job = job
    this.#hash = createHasher(job)
  }

  /** Resumes from the bytes in the file. */
  async keep(): Promise<void> {
    const { size } = await this.#handle.stat()
    if (size === 0 || size > this.#job.size) return
    this.kept = true
    const { signal } = this.#job
    const content = this.#handle.createReadStream({ start: 0, end: size - 1, autoClose: false, signal })
    for await (const chunk of content as AsyncIterable<Buffer>) {
      this.#hash.update(chunk)
      this.#position += chunk.length
    }
  }

  /** Downloads the rest. Returns whether the hash is right. */
  async run(): Promise<boolean> {
    const { size, hash, patience, signal } = this.#job
    await persist(
      () => this.#receive(),
      patience,
      signal,
      () => this.#position,
    )
    if (hash !== undefined && this.#hash.digest('hex') !== hash) return false
    await this.#handle.truncate(size)
    await flush(this.#handle)
    return true
  }

  /** Sends one request for the missing bytes. */
  async #receive(): Promise<void> {
    const { url, size, token, signal, patience, onBytes } = this.#job
    onBytes(this.#position)
    if (this.#position === size) return
    const headers: Record<string, string> = this.#position > 0 ? { range: `bytes=${this.#position}-` } : {}
    const response = await get(url, { headers, token, signal, stallMs: patience.stallMs })
    try {
      this.#begin(response)
      for await (const chunk of bodyOf(response, url, signal)) {
        if (this.#position + chunk.length > size)
          throw failed(this.#job, `the server sent more than ${size} bytes`)
        // At its position, not at the end: two writers of one file would write the same.
        await this.#write(chunk)
        this.#hash.update(chunk)
        this.#position += chunk.length
        onBytes(this.#position)
      }
    } finally {
      response.destroy()
    }
    if (this.#position < size)
      throw new Interruption(`the connection ended after ${this.#position} of ${size} bytes`)
  }

  async #write(chunk: Buffer): Promise<void> {
    for (let written = 0; written < chunk.length; ) {
      const rest = chunk.length - written
      written += (await this.#handle.write(chunk, written, rest, this.#position + written)).bytesWritten
    }
  }

  /** Checks an answer's headers before a byte is written. */
  #begin(response: IncomingMessage): void {
    const { size } = this.#job
    const {
      'content-type': type = '',
      'content-encoding': encoding = 'identity',
      ...headers
    } = response.headers
    if (type.startsWith('text/html')) {
      throw failed(
        this.#job,
        'the server sent a web page instead of the file; is there a login page or a filter in the network?',
      )
    }
    if (encoding !== 'identity') throw failed(this.#job, `the server sent it encoded as ${encoding}`)
    if (response.statusCode === 206) {
      const [, first, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
      if (Number(first) === this.#position && (total === '*' || Number(total) === size)) return
      throw failed(
        this.#job,
        `the server sent another part than the requested one: ${headers['content-range']}`,
      )
    }
    this.#restart()
    if (response.statusCode === 416) throw new Interruption('the server does not have the requested range')
    const length = headers['content-length']
    if (length !== undefined && Number(length) !== size)
      throw failed(this.#job, `the server's file has ${length} bytes instead of ${size}`)
  }

  #restart(): void {
    this.#position = 0
    this.#hash = createHasher(this.#job)
    this.kept = false
  }
}

/** A hash of the content, or of a git blob, which is a header with the size and the content. */
function createHasher({ hash, size }: Download): Hash {
  return hash?.length !== 40 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

async function fileSize(file: string): Promise<number | undefined> {
  return stat(file).then(
    (status) => status.size,
    () => undefined,
  )
}

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return types.isNativeError(error) && 'syscall' in error
}

function failed({ url, file }: Download, reason: string, cause?: unknown): TorchreelError {
  return new TorchreelError('ERR_DOWNLOAD_FAILED', `could not download ${url.href}: ${reason}`, {
    url: url.href,
    path: file,
    cause,
  })
}
