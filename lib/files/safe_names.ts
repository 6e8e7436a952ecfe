import { realpath } from 'node:fs/promises'
import path from 'node:path'
import { TorchreelError } from '../errors.js'

/**
 * Refuses a name from a server that could lead out of the folder it is joined to, on any system: a backslash is a
 * letter on POSIX and a separator on Windows, `C:x` is a drive there.
 *
 * @throws TorchreelError `ERR_UNSAFE_PATH`
 */
export function checkFileName(name: unknown): asserts name is string {
  if (typeof name !== 'string' || name.length > 1024) throw unsafeName(name)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f\\]/.test(name) || /^[A-Za-z]:/.test(name)) throw unsafeName(name)
  for (const part of name.split('/')) {
    // Windows drops dots and spaces at the end of a name, and opens a device whatever follows the dot in its name.
    const stem = (part.split('.')[0] as string).trimEnd()
    if (/^[. ]*$/.test(part) || /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(stem)) throw unsafeName(name)
  }
}

export function unsafeName(name: unknown): TorchreelError {
  const shown = JSON.stringify(name)?.slice(0, 100)
  return new TorchreelError('ERR_UNSAFE_PATH', `the repository names a file ${shown}, which is not safe`, {
    received: name,
  })
}

/**
 * Refuses links that lead out of a checkpoint's folder, which may be a stranger's. Links from a snapshot in Hugging
 * Face's cache to the blobs beside it are fine.
 *
 * @param names relative to `root`; those that do not exist are ignored
 * @throws TorchreelError `ERR_UNSAFE_PATH`
 */
export async function checkLinks(root: string, names: readonly string[]): Promise<void> {
  const real = await realpath(root)
  const inside = [real]
  if (path.basename(path.dirname(real)) === 'snapshots') {
    const blobs = await realpath(path.join(real, '../../blobs')).catch(() => undefined)
    if (blobs !== undefined) inside.push(blobs)
  }
  for (const name of names) {
    const file = path.join(root, name)
    const target = await realpath(file).catch(() => undefined)
    if (target === undefined || inside.some((folder) => target.startsWith(folder + path.sep))) continue
    throw new TorchreelError(
      'ERR_UNSAFE_PATH',
      `${file} is a link to ${target}, outside the model's folder: copy the file, or link the whole folder`,
      { path: file, received: target },
    )
  }
}
