import { fsync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { promisify } from 'node:util'

/** File systems that cannot flush, and Node's permission model, which does not let a program flush. */
const unavailable = ['EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'ERR_ACCESS_DENIED']

/**
 * Flushes a file to the disk, where that can be done: a video that cannot be flushed is no lost video. By its descriptor:
 * the handles of Yarn Plug'n'Play have no `sync`.
 */
export async function flush(handle: FileHandle): Promise<void> {
  try {
    await promisify(fsync)(handle.fd)
  } catch (error) {
    if (!unavailable.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
