import { createHash, type Hash, randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { TorchreelError } from '../errors.js'
import { identityPattern, isDead, ownIdentity } from '../files/process_identity.js'
import { bodyOf, get, type HttpRequest, Interruption } from './http.js'

/** How patient a download is. */
export interface Patience {
  /** Milliseconds without a byte after which a connection is given up. */
  readonly stallMs: number
  /** Milliseconds before the first retry; each further one waits twice as long. */
  readonly retryMs: number
  /** How often in a row a download that does not get on is tried again. */
  readonly retries: number
}

export const patience: Patience = { stallMs: 30_000, retryMs: 500, retries: 5 }

/** A file to get, and what it must turn out to be. */
export interface Download extends Omit<HttpRequest, 'headers' | 'stallMs'> {
  readonly url: URL
  /** Where it is to lie. */
  readonly file: string
  /** Bytes. */
  readonly size: number
  /** Hex: the sha256 of the content, or the 40 digits of its git blob. Undefined: whoever reads the file will tell. */
  readonly hash: string | undefined
  readonly patience: Patience
  /** Hears how many bytes are there; what it throws ends the download. */
  readonly onBytes: (bytes: number) => void
}

/**
 * Gets a file that appears under its name only when it is whole and has the right hash.
 *
 * While it is being got it is called `FILE.torchreel-HOST-PID-START-RANDOM.incomplete`: the name says whose it is, and
 * taking over what a dead process or a failed attempt left (`FILE.torchreel.incomplete`) is one rename, which only one
 * process can win. So there is no lock to be left behind. A file that a living process is getting is waited for.
 *
 * @throws TorchreelError `ERR_DOWNLOAD_FAILED`; Refusal; `signal.reason`; what `onBytes` throws
 */
export async function download(job: Download): Promise<void> {
  const { file, size, signal, onBytes } = job
  try {
    await mkdir(path.dirname(file), { recursive: true })
    while ((await sizeOf(file)) !== size) {
      signal?.throwIfAborted()
      const partial = await claim(file)
      if (partial === undefined) {
        // Another process is at it.
        onBytes(await partialBytes(file))
        await pause(100 + Math.random() * 200, signal)
        continue
      }
      // Between the look at the file and the look at its partial files, another process may have put it there.
      if ((await sizeOf(file)) === size) {
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

/** How many bytes of a file are there from attempts before, or come in by another process. */
export async function partialBytes(file: string): Promise<number> {
  const partials = await partialsOf(file)
  return Math.max(0, ...partials.map((partial) => partial.bytes))
}

/**
 * Runs something until no Interruption comes of it. Retries are counted anew whenever `progress` has grown by a
 * mebibyte, so a large file may survive many cuts, yet a server that never gets on is given up.
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

interface Partial {
  readonly path: string
  readonly bytes: number
  /** Whether a process that may be alive is writing it. */
  readonly inUse: boolean
}

/** A writer that has not been heard of for so long is gone, though its process may live: a worker that was ended. */
const silentMs = 10 * 60_000

async function partialsOf(file: string): Promise<Partial[]> {
  const prefix = `${path.basename(file)}.torchreel`
  const owned = new RegExp(`^-(${identityPattern})-[0-9a-f]{12}\\.incomplete$`)
  const found: Partial[] = []
  for (const name of await readdir(path.dirname(file)).catch((): string[] => [])) {
    if (!name.startsWith(prefix)) continue
    const rest = name.slice(prefix.length)
    const owner = owned.exec(rest)?.[1]
    if (owner === undefined && rest !== '.incomplete') continue
    const partial = path.join(path.dirname(file), name)
    const status = await stat(partial).catch(() => undefined)
    if (!status) continue
    // A rename counts as a sign of life, and changes only ctime.
    const silent = Date.now() - Math.max(status.mtimeMs, status.ctimeMs) > silentMs
    found.push({ path: partial, bytes: status.size, inUse: owner !== undefined && !silent && !isDead(owner) })
  }
  return found.sort((a, b) => b.bytes - a.bytes)
}

/** A partial file of this call's own: taken over, else new and empty. Undefined while another's is in use. */
async function claim(file: string): Promise<string | undefined> {
  const own = `${file}.torchreel-${ownIdentity}-${randomBytes(6).toString('hex')}.incomplete`
  const partials = await partialsOf(file)
  if (partials.some((partial) => partial.inUse)) return undefined
  for (const partial of partials) {
    const taken = await rename(partial.path, own).then(
      () => true,
      () => false,
    )
    if (taken) return own
  }
  await (await open(own, 'wx')).close()
  // Two that looked at the same moment each made one: whoever sees the other gives way, and looks again later.
  const rivals = (await partialsOf(file)).filter((partial) => partial.inUse && partial.path !== own)
  if (rivals.length === 0) return own
  await rm(own, { force: true })
  return undefined
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

/** Brings a partial file to its full length, checks it and flushes it to the disk. */
async function fill(partial: string, job: Download): Promise<void> {
  const handle = await open(partial, 'r+')
  try {
    const filling = new Filling(handle, job)
    await filling.keep()
    if (await filling.run()) return
    // What lay there before may be to blame: once more, from the start.
    if (filling.kept && (await new Filling(handle, job).run())) return
    await rm(partial, { force: true })
    throw failed(job, `what came has not the ${job.hash?.length === 64 ? 'sha256' : 'git hash'} ${job.hash}`)
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
    this.#hash = hasher(job)
  }

  /** Goes on from what the file holds. */
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

  /** Gets the rest. Returns whether the hash is right. */
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
    await this.#handle.sync()
    return true
  }

  /** One request for what is missing. */
  async #receive(): Promise<void> {
    const { url, size, token, signal, patience, onBytes } = this.#job
    onBytes(this.#position)
    if (this.#position === size) return
    const headers: Record<string, string> = this.#position > 0 ? { range: `bytes=${this.#position}-` } : {}
    const response = await get(url, { headers, token, signal, stallMs: patience.stallMs })
    try {
      this.#begin(response)
      for await (const chunk of bodyOf(response, url, signal)) {
        if (this.#position + chunk.length > size) throw failed(this.#job, `more than ${size} bytes came`)
        // At its place, not at the end: should two ever write one file, they write the same.
        await this.#write(chunk)
        this.#hash.update(chunk)
        this.#position += chunk.length
        onBytes(this.#position)
      }
    } finally {
      response.destroy()
    }
    if (this.#position < size) throw new Interruption(`it ended after ${this.#position} of ${size} bytes`)
  }

  async #write(chunk: Buffer): Promise<void> {
    for (let written = 0; written < chunk.length; ) {
      const rest = chunk.length - written
      written += (await this.#handle.write(chunk, written, rest, this.#position + written)).bytesWritten
    }
  }

  /** Reads what an answer says of itself. Whatever it is not a part of is a failure before a byte is written. */
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
        'a web page came instead of the file; is there a login page or a filter on the way?',
      )
    }
    if (encoding !== 'identity') throw failed(this.#job, `it came encoded as ${encoding}`)
    if (response.statusCode === 206) {
      const [, first, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
      if (Number(first) === this.#position && (total === '*' || Number(total) === size)) return
      throw failed(this.#job, `another part came than was asked for: ${headers['content-range']}`)
    }
    this.#restart()
    if (response.statusCode === 416) throw new Interruption('the server has no such range')
    const length = headers['content-length']
    if (length !== undefined && Number(length) !== size)
      throw failed(this.#job, `it has ${length} bytes instead of ${size}`)
  }

  #restart(): void {
    this.#position = 0
    this.#hash = hasher(this.#job)
    this.kept = false
  }
}

/** Of a content, or of a git blob, which is its size and its content. */
function hasher({ hash, size }: Download): Hash {
  return hash?.length !== 40 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

async function sizeOf(file: string): Promise<number | undefined> {
  return stat(file).then(
    (status) => status.size,
    () => undefined,
  )
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}

function failed({ url, file }: Download, reason: string, cause?: unknown): TorchreelError {
  return new TorchreelError('ERR_DOWNLOAD_FAILED', `${url.href} could not be downloaded: ${reason}`, {
    url: url.href,
    path: file,
    cause,
  })
}
