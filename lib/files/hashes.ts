import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TorchreelError } from '../errors.js'
import { readText } from './json.js'
import { exists, readRegularFile } from './regular_file.js'

/**
 * Reads each file completely and compares its sha256 with the expected one: from `SHA256SUMS` in the model's folder, as
 * `sha256sum` writes it, else from the name of its blob in Hugging Face's cache.
 *
 * @throws TorchreelError `ERR_MODEL_CORRUPT` for a mismatch, `ERR_INVALID_ARGUMENT` if no sha256 is known
 */
export async function verifyFiles(
  folder: string,
  files: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const sums = await readSums(path.join(folder, 'SHA256SUMS'))
  for (const file of files) {
    const expected = sums.get(path.relative(folder, file)) ?? (await findBlobHash(file))
    if (expected === undefined) {
      throw new TorchreelError(
        'ERR_INVALID_ARGUMENT',
        `verify needs a sha256 of ${file}: a model from Hugging Face's cache, or SHA256SUMS in ${folder}`,
        { parameter: 'verify', path: file },
      )
    }
    const received = await hashFile(file, signal)
    if (received === expected) continue
    const message = `${file}: sha256 mismatch, expected ${expected}, got ${received}`
    throw new TorchreelError('ERR_MODEL_CORRUPT', message, { path: file, expected, received })
  }
}

/** Hashes by name, relative to the folder. */
async function readSums(file: string): Promise<Map<string, string>> {
  const text = exists(file) ? await readText(file) : ''
  const lines = text.matchAll(/^([0-9a-f]{64}) [ *](?:\.\/)?(.+)$/gm)
  return new Map(Array.from(lines, ([, hash, name]) => [name as string, hash as string]))
}

async function findBlobHash(file: string): Promise<string | undefined> {
  const blob = await realpath(file).catch(() => '')
  const name = path.basename(blob)
  return path.basename(path.dirname(blob)) === 'blobs' && /^[0-9a-f]{64}$/.test(name) ? name : undefined
}

async function hashFile(file: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256')
  try {
    await readRegularFile(file, (handle) =>
      pipeline(handle.createReadStream({ autoClose: false }), hash, { signal }),
    )
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
  return hash.digest('hex')
}
