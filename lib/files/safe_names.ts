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

/** A file in a Hugging Face cache: `models--OWNER--NAME/blobs/HASH`, or in a snapshot where there are no links. */
const inHubCache = /\/models--[^/]+\/(?:blobs\/[0-9a-f]{40,64}$|snapshots\/[0-9a-f]{40}\/)/

/**
 * Refuses links that lead out of a checkpoint's folder, which may be a stranger's. Links into a Hugging Face cache are
 * fine: a snapshot has them, and folders that `huggingface-cli download --local-dir` made.
 *
 * @param names relative to `root`; those that do not exist are ignored
 * @throws TorchreelError `ERR_UNSAFE_PATH`
 */
export async function checkLinks(root: string, names: readonly string[]): Promise<void> {
  const real = await realpath(root)
  for (const name of names) {
    const file = path.join(root, name)
    const target = await realpath(file).catch(() => undefined)
    if (target === undefined || target.startsWith(real + path.sep) || inHubCache.test(target)) continue
    throw new TorchreelError(
      'ERR_UNSAFE_PATH',
      `${file} is a link to ${target}, outside the model's folder and of Hugging Face's cache. If the link is yours, set ` +
        'trustLinks: true (--trust-links), or copy the file, or link the whole folder',
      { path: file, received: target },
    )
  }
}
