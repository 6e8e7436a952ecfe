import { constants, statSync } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { TorchreelError } from '../errors.js'
import { refusedPermission } from './permission.js'

/** Whether a file or folder is there. Not `existsSync`, which throws under Node's permission model. */
export function exists(file: string): boolean {
  try {
    statSync(file)
    return true
  } catch {
    return false
  }
}

/** Why this process may not see a file or folder, as the end of a sentence. Undefined: it may, or nothing is there. */
export function whyRefused(file: string): string | undefined {
  try {
    statSync(file)
    return undefined
  } catch (error) {
    return isMissing(error) ? undefined : unreadable(error)
  }
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

function unreadable(error: unknown): string {
  return `cannot be read: ${refusedPermission(error) ?? (error as Error).message}`
}

export async function isFolder(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

export async function isFile(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isFile(),
    () => false,
  )
}

/**
 * Opens a regular file, reads it and closes it. A stranger's folder may hold pipes, which never end, and devices: neither
 * is waited for.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND` with the system's error as its cause, `ERR_MODEL_CORRUPT`
 */
export async function readRegularFile<T>(file: string, read: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw cannotRead(file, error)
  }
  // No `await using`: the handles of Yarn Plug'n'Play cannot be disposed of.
  try {
    const status = await handle.stat()
    if (status.isFile()) return await read(handle)
    const what = status.isDirectory() ? 'is a folder, not a file' : 'is not a regular file'
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} ${what}`, { path: file })
  } catch (error) {
    throw error instanceof TorchreelError ? error : cannotRead(file, error)
  } finally {
    await handle.close()
  }
}

/** An `ERR_MODEL_NOT_FOUND` for a file that is missing or cannot be read. */
function cannotRead(file: string, cause: unknown): TorchreelError {
  const what = isMissing(cause) ? 'is missing' : unreadable(cause)
  return new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} ${what}`, { path: file, cause })
}
