import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { link, lstat, mkdir, open, readdir, realpath, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { types } from 'node:util'
import { TorchreelError } from '../errors.js'
import { flush } from './flush.js'
import { refusedPermission } from './permission.js'
import { identityPattern, isDead, ownIdentity } from './process_identity.js'

/** A file being written. The temporary file is in the target's folder. */
interface Pending {
  readonly target: string
  readonly temporary: string
}

const temporaries = new Set<string>()
process.on('exit', () => {
  for (const temporary of temporaries) rmSync(temporary, { force: true })
})

/**
 * Files that appear complete or not at all. Each is written under a temporary name in its target's folder; `commit` flushes
 * all of them to the disk, then renames them one by one. Without a commit no new file stays, and old files are unchanged.
 *
 * A temporary file is called `.torchreel-HOST-PID-START-RANDOM`. Those that dead processes left in the folder are removed.
 */
export class OutputFiles {
  readonly #overwrite: boolean
  readonly #pending: Pending[] = []
  readonly #swept = new Set<string>()
  #createdFolder: string | undefined

  constructor(overwrite: boolean) {
    this.#overwrite = overwrite
  }

  /** Creates a folder for the files if there is none. Without a commit it is removed again. */
  async createFolder(path: string): Promise<void> {
    try {
      await mkdir(path)
      this.#createdFolder = path
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw cannotWrite(path, error)
    }
  }

  /**
   * Adds a file. Returns the path of its temporary file, which is empty.
   *
   * @param path absolute
   * @throws TorchreelError `ERR_OUTPUT_EXISTS`, `ERR_OUTPUT_WRITE`
   */
  async add(path: string): Promise<string> {
    const target = await this.#check(path)
    const folder = dirname(target)
    if (!this.#swept.has(folder)) await sweep(folder)
    this.#swept.add(folder)
    const temporary = this.#register(folder)
    try {
      await (await open(temporary, 'wx')).close()
    } catch (error) {
      temporaries.delete(temporary)
      throw cannotWrite(path, error)
    }
    this.#pending.push({ target, temporary })
    return temporary
  }

  /** A new name for a temporary file, which is removed when the process exits. */
  #register(folder: string): string {
    const temporary = join(folder, `${ownPrefix}-${randomBytes(6).toString('hex')}`)
    temporaries.add(temporary)
    return temporary
  }

  /** The file to replace: where `path` leads, if it is a link. */
  async #check(path: string): Promise<string> {
    try {
      await lstat(path)
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return path
      throw cannotWrite(path, error)
    }
    const target = await realpath(path).catch(() => path)
    const isFile = await stat(target).then(
      (status) => status.isFile(),
      () => true,
    )
    if (!isFile) throw cannotWrite(path, new Error('it exists and is not a file'))
    if (!this.#overwrite) throw exists(path)
    return target
  }

  /**
   * Does with the empty files all that writing and `commit` will do: a byte, a flush, another name. Nothing of it stays.
   *
   * @throws TorchreelError `ERR_OUTPUT_WRITE`
   */
  async rehearse(): Promise<void> {
    for (const { target, temporary } of this.#pending) {
      const other = this.#register(dirname(temporary))
      try {
        const file = await open(temporary, 'r+')
        try {
          await file.writeFile('\0')
          await flush(file)
          await file.truncate()
        } finally {
          await file.close()
        }
        await (this.#overwrite ? rename(temporary, other) : placeNew(temporary, other))
      } catch (error) {
        throw cannotWrite(target, error)
      } finally {
        await rm(other, { force: true }).catch(() => {})
        temporaries.delete(other)
      }
    }
  }

  /** Flushes every file and gives it its name. After a failure without `overwrite` none of them stays. */
  async commit(): Promise<void> {
    const placed: string[] = []
    let current = ''
    try {
      for (const { target, temporary } of this.#pending) {
        current = target
        const file = await open(temporary, 'r+')
        await flush(file).finally(() => file.close())
      }
      for (const { target, temporary } of this.#pending) {
        current = target
        await (this.#overwrite ? rename(temporary, target) : placeNew(temporary, target))
        placed.push(target)
      }
      this.#createdFolder = undefined
    } catch (error) {
      if (!this.#overwrite) await Promise.all(placed.map((path) => rm(path, { force: true })))
      throw errorCode(error) === 'EEXIST' ? exists(current) : cannotWrite(current, error)
    }
  }

  /**
   * Removes what `commit` has not placed. Call it in any case, in a `finally`: there is no `await using` in this package,
   * since test runners on older Node have no `Symbol.asyncDispose`.
   */
  async close(): Promise<void> {
    for (const { temporary } of this.#pending) {
      await rm(temporary, { force: true }).catch(() => {})
      temporaries.delete(temporary)
    }
    if (this.#createdFolder !== undefined) await rmdir(this.#createdFolder).catch(() => {})
  }
}

/** Renames a file without replacing another: EEXIST if the target exists by now. */
async function placeNew(temporary: string, target: string): Promise<void> {
  try {
    await link(temporary, target)
  } catch (error) {
    if (errorCode(error) === 'EEXIST') throw error
    // A file system without hard links: claim the name with an empty file, then replace that.
    await (await open(target, 'wx')).close()
    await rename(temporary, target).catch(async (cause) => {
      await rm(target, { force: true })
      throw cause
    })
  }
}

const ownPrefix = `.torchreel-${ownIdentity}`
const temporaryName = new RegExp(`^\\.torchreel-(${identityPattern})-[0-9a-f]{12}$`)

/** Removes the temporary files that dead processes of this host left in a folder. */
async function sweep(folder: string): Promise<void> {
  const names = await readdir(folder).catch((): string[] => [])
  for (const name of names) {
    const identity = temporaryName.exec(name)?.[1]
    if (identity === undefined || !isDead(identity)) continue
    await rm(join(folder, name), { force: true }).catch(() => {})
  }
}

function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}

function exists(path: string): TorchreelError {
  return new TorchreelError(
    'ERR_OUTPUT_EXISTS',
    `${path} exists; overwrite: true (--overwrite) replaces it`,
    { path },
  )
}

/** An `ERR_OUTPUT_WRITE` for a file or folder, with the system's reason. */
export function cannotWrite(path: string, cause: unknown): TorchreelError {
  const reason =
    errorCode(cause) === 'ENOENT'
      ? `the folder ${dirname(path)} does not exist`
      : (refusedPermission(cause, dirname(path)) ??
        (types.isNativeError(cause) ? cause.message : String(cause)))
  return new TorchreelError('ERR_OUTPUT_WRITE', `cannot write ${basename(path)}: ${reason}`, { path, cause })
}
