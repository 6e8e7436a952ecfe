import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import { TorchreelError } from '../errors.js'

/** What the header of a safetensors file says of one tensor. */
export interface TensorHeader {
  /** 'F32', 'F16', 'BF16' … */
  readonly dtype: string
  readonly shape: readonly number[]
}

/** What stands in a safetensors file, without its numbers. */
export interface SafetensorsHeader {
  /** Absolute. */
  readonly file: string
  readonly tensors: ReadonlyMap<string, TensorHeader>
  readonly metadata: Readonly<Record<string, string>>
}

/**
 * Reads the names and shapes of a safetensors file with a header of up to `maxHeader` bytes. The core, which reads the numbers, checks every rule of the format.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` for a pickle
 */
export async function readSafetensorsHeader(name: string, maxHeader: number): Promise<SafetensorsHeader> {
  const file = path.resolve(name)
  if (/\.(bin|pt|pth|ckpt)$/.test(file)) throw pickled(file)
  let handle: FileHandle
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK) // a pipe must not be waited for
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} ${absent ? 'is missing' : 'cannot be read'}`, {
      path: file,
      cause: error,
    })
  }
  try {
    if (!(await handle.stat()).isFile()) throw new Error('it is not a regular file')
    if (await isPickle(handle)) throw pickled(file)
    return { file, ...headerOf(JSON.parse(await headerText(handle, maxHeader))) }
  } catch (error) {
    if (error instanceof TorchreelError) throw error
    throw new TorchreelError(
      'ERR_MODEL_CORRUPT',
      `${file} is no safetensors file: ${(error as Error).message}`,
      { path: file, cause: error },
    )
  } finally {
    await handle.close()
  }
}

/** By its first bytes, whatever its name says: torch.save's archive, or a bare pickle of protocol 2 to 5. */
async function isPickle(handle: FileHandle): Promise<boolean> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(8), 0, 8, 0)
  if (bytesRead < 8 || buffer.readBigUInt64LE() < 2n ** 32n) return false // else the length of a header
  const [first, second] = buffer as unknown as [number, number]
  return (
    buffer.toString('latin1', 0, 4) === 'PK\u0003\u0004' || (first === 0x80 && second >= 2 && second <= 5)
  )
}

function pickled(file: string): TorchreelError {
  return new TorchreelError(
    'ERR_MODEL_UNTRUSTED',
    `${file} is a pickle, which is a program and is not run. Convert it once, in Python: ` +
      'safetensors.torch.save_file(torch.load(file, weights_only=True), name)',
    { path: file },
  )
}

async function headerText(handle: FileHandle, maxHeader: number): Promise<string> {
  const stat = await handle.stat()
  if (!stat.isFile() || stat.size < 8) throw new Error('it has no header')
  const { buffer: prefix } = await handle.read(Buffer.alloc(8), 0, 8, 0)
  const length = prefix.readBigUInt64LE()
  if (length > maxHeader || length > stat.size - 8) throw new Error(`its header claims ${length} bytes`)
  const { buffer } = await handle.read(Buffer.alloc(Number(length)), 0, Number(length), 8)
  return buffer.toString('utf8')
}

function headerOf(json: unknown): Omit<SafetensorsHeader, 'file'> {
  if (typeof json !== 'object' || json === null) throw new Error('its header is no object')
  const { __metadata__: metadata, ...entries } = json as Record<string, unknown>
  const tensors = new Map<string, TensorHeader>()
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape } = (entry ?? {}) as Partial<TensorHeader>
    if (typeof dtype !== 'string' || !Array.isArray(shape) || !shape.every(Number.isSafeInteger)) {
      throw new Error(`its header says no type and shape of ${name}`)
    }
    tensors.set(name, { dtype, shape })
  }
  return { tensors, metadata: (metadata ?? {}) as Record<string, string> }
}

/** Whether a tensor's type is one that weights have. */
export function isFloatingPoint({ dtype }: TensorHeader): boolean {
  return ['F16', 'BF16', 'F32', 'F64'].includes(dtype)
}
