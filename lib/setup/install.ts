import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { TorchreelError, type TorchreelErrorCode } from '../errors.js'
import { identityPattern, isDead, ownIdentity } from '../files/process_identity.js'
import { cacheFolder } from '../machine/cache.js'

/** Hears about the progress of a source. */
export interface Reporting {
  /** What is being done, and what a started program prints. */
  onOutput: (chunk: string) => void
  onProgress: (progress: { file: string; bytes: number; totalBytes: number }) => void
  signal?: AbortSignal | undefined
}

/** Where something can come from. */
export interface Source {
  readonly name: string
  /** In words, before anything is done. */
  readonly description: string
  /** Fills a folder that does not exist yet. */
  get(folder: string, reporting: Reporting): Promise<void>
}

/** What to put into the cache. */
export interface Installation<Installed> {
  /** Such as `libtorch 2.13.0`. */
  readonly what: string
  /** Tried one after the other. */
  readonly sources: readonly Source[]
  /** The folder in the cache. */
  readonly target: string
  /** Tries what came, before and after it is put in place. @throws Error when it does not work */
  readonly check: (folder: string) => Promise<Installed>
  /** The code of an error, and how the user can do without this. */
  readonly code: TorchreelErrorCode
  readonly advice: string
}

/**
 * Puts something into the cache, whole or not at all: it is got and tried in a folder beside the target, then renamed.
 *
 * @throws TorchreelError with the installation's code and the reason why each source failed; `signal.reason`
 */
export async function install<Installed>(
  { what, sources, target, check, code, advice }: Installation<Installed>,
  { signal, ...reporting }: Reporting,
): Promise<Installed> {
  const incoming = await incomingFolder().catch((cause: NodeJS.ErrnoException) => {
    const message = `Cannot write to ${cacheFolder()} (${cause.code}). Set XDG_CACHE_HOME to another folder. ${advice}`
    throw new TorchreelError(code, message, { path: cacheFolder(), cause })
  })
  const failures: string[] = []
  try {
    for (const [at, { name, description, get }] of sources.entries()) {
      const folder = path.join(incoming, `${at}`)
      try {
        reporting.onOutput(`getting ${what} from ${name}: ${description}\n`)
        await get(folder, { signal, ...reporting })
        await check(folder)
        await replace(target, folder, incoming, check)
        return await check(target)
      } catch (error) {
        signal?.throwIfAborted()
        failures.push(`  - ${name}, ${description}: ${(error as Error).message}\n`)
        reporting.onOutput(`${name} failed: ${(error as Error).message}\n`)
      }
    }
  } finally {
    await rm(incoming, { recursive: true, force: true })
  }
  throw new TorchreelError(code, `Could not get ${what}. Tried:\n${failures.join('')}${advice}`, {
    path: target,
  })
}

const incomingName = new RegExp(`^incoming-(${identityPattern})-`)

/** A folder beside the target, so that a rename is the last step. Removes the folders that dead processes left. */
async function incomingFolder(): Promise<string> {
  await mkdir(cacheFolder(), { recursive: true })
  for (const name of await readdir(cacheFolder())) {
    const owner = incomingName.exec(name)?.[1]
    if (owner && isDead(owner)) await rm(path.join(cacheFolder(), name), { recursive: true, force: true })
  }
  return mkdtemp(path.join(cacheFolder(), `incoming-${ownIdentity}-`))
}

/** Renames a folder to the target. What lay there is moved away; programs that opened its files keep them until they end. */
async function replace(
  target: string,
  folder: string,
  trash: string,
  check: (folder: string) => Promise<unknown>,
): Promise<void> {
  const before = path.join(trash, `before-${randomBytes(4).toString('hex')}`)
  await rename(target, before).catch(() => {})
  await rename(folder, target).catch(async (error: Error) => {
    // Another process may have been first. What it installed will do, if it works.
    await check(target).catch(() => {
      throw error
    })
  })
}
