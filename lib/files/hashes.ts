import { createHash } from 'node:crypto'
import { constants, existsSync } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TorchreelError } from '../errors.js'
import { readText } from './json.js'

/**
 * Reads files whole and compares each with the sha256 that is known of it: from `SHA256SUMS` in the model's folder, as
 * `sha256sum` writes it, else from the name of its blob in Hugging Face's cache.
 *
 * @throws TorchreelError `ERR_MODEL_CORRUPT` for another content, `ERR_INVALID_ARGUMENT` where no sha256 is known
 */
export async function verifyFiles(
  folder: string,
  files: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const sums = await readSums(path.join(folder, 'SHA256SUMS'))
  for (const file of files) {
    const expected = sums.get(path.relative(folder, file)) ?? (await blobHash(file))
    if (expected === undefined) {
      throw new TorchreelError(
        'ERR_INVALID_ARGUMENT',
        `verify needs a sha256 of ${file}: a model from Hugging Face's cache, or SHA256SUMS in ${folder}`,
        { parameter: 'verify', path: file },
      )
    }
    const received = await hashOf(file, signal)
    if (received === expected) continue
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} has not the sha256 ${expected}`, {
      path: file,
      expected,
      received,
    })
  }
}

/** Hashes by name, relative to the folder. */
async function readSums(file: string): Promise<Map<string, string>> {
  const text = existsSync(file) ? await readText(file) : ''
  const lines = text.matchAll(/^([0-9a-f]{64}) [ *](?:\.\/)?(.+)$/gm)
  return new Map(Array.from(lines, ([, hash, name]) => [name as string, hash as string]))
}

async function blobHash(file: string): Promise<string | undefined> {
  const blob = await realpath(file).catch(() => '')
  const name = path.basename(blob)
  return path.basename(path.dirname(blob)) === 'blobs' && /^[0-9a-f]{64}$/.test(name) ? name : undefined
}

async function hashOf(file: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256')
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    if (!(await handle.stat()).isFile()) {
      throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is not a regular file`, { path: file })
    }
    await pipeline(handle.createReadStream(), hash, { signal })
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof TorchreelError) throw error
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} cannot be read`, { path: file, cause: error })
  }
  return hash.digest('hex')
}
