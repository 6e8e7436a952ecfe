import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { TorchreelError } from '../errors.js'

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
 * Opens a regular file to read. A stranger's folder may hold pipes, which never end, and devices: neither is waited for.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND` with the system's error as its cause, `ERR_MODEL_CORRUPT`
 */
export async function openRegularFile(file: string): Promise<FileHandle> {
  let handle: FileHandle
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw cannotRead(file, error)
  }
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is not a regular file`, { path: file })
}

/** An `ERR_MODEL_NOT_FOUND` for a file that is missing or cannot be read. */
export function cannotRead(file: string, cause: unknown): TorchreelError {
  const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT'
  return new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} ${absent ? 'is missing' : 'cannot be read'}`, {
    path: file,
    cause,
  })
}
