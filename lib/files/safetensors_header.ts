import type { FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { readRegularFile } from './regular_file.js'
import { shellWord } from './shell_word.js'

/** A tensor of a safetensors file, as the header describes it. */
export interface TensorHeader {
  /** 'F32', 'F16', 'BF16' … */
  readonly dtype: string
  readonly shape: readonly number[]
}

/** A safetensors file without its numbers. */
export interface SafetensorsHeader {
  /** Absolute. */
  readonly file: string
  readonly tensors: ReadonlyMap<string, TensorHeader>
  readonly metadata: Readonly<Record<string, string>>
}

/**
 * Reads the names and shapes of a safetensors file. The core, which reads the numbers, checks every rule of the format.
 *
 * @param maxHeader bytes that the header may have
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` for a pickle
 */
export async function readSafetensorsHeader(name: string, maxHeader: number): Promise<SafetensorsHeader> {
  const file = path.resolve(name)
  if (/\.(bin|pt|pth|ckpt)$/.test(file)) throw pickled(file)
  return readRegularFile(file, async (handle) => {
    try {
      if (await isPickle(handle)) throw pickled(file)
      return { file, ...parseHeader(JSON.parse(await readHeader(handle, maxHeader))) }
    } catch (error) {
      if (error instanceof TorchreelError) throw error
      throw new TorchreelError(
        'ERR_MODEL_CORRUPT',
        `${file} is not a safetensors file: ${(error as Error).message}`,
        { path: file, cause: error },
      )
    }
  })
}

/** Tells by the first bytes, not by the name: torch.save's archive, or a bare pickle of protocol 2 to 5. */
async function isPickle(handle: FileHandle): Promise<boolean> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(8), 0, 8, 0)
  if (bytesRead < 8 || buffer.readBigUInt64LE() < 2n ** 32n) return false // a header's length
  const [first, second] = buffer as unknown as [number, number]
  return (
    buffer.toString('latin1', 0, 4) === 'PK\u0003\u0004' || (first === 0x80 && second >= 2 && second <= 5)
  )
}

/** Python that converts a pickle of tensors, or A1111's textual inversion, whose vectors lie in a dictionary of it. */
const conversion =
  'import sys, torch; from safetensors.torch import save_file; x = torch.load(sys.argv[1], "cpu", weights_only=True); ' +
  'x = {"emb_params": next(iter(x["string_to_param"].values()))} if "string_to_param" in x else x; ' +
  'save_file({name: tensor.detach().clone().contiguous() for name, tensor in x.items()}, sys.argv[2])'

function pickled(file: string): TorchreelError {
  const converted = `${file.replace(/\.(bin|pt|pth|ckpt)$/, '')}.safetensors`
  return new TorchreelError(
    'ERR_MODEL_UNTRUSTED',
    `${file} is a pickle: a program, which torchreel does not run. Convert it once, with Python, torch and safetensors: ` +
      `python3 -c '${conversion}' ${shellWord(file)} ${shellWord(converted)}`,
    { path: file },
  )
}

async function readHeader(handle: FileHandle, maxHeader: number): Promise<string> {
  const { size } = await handle.stat()
  if (size < 8) throw new Error('it has no header')
  const { buffer: prefix } = await handle.read(Buffer.alloc(8), 0, 8, 0)
  const length = prefix.readBigUInt64LE()
  if (length > maxHeader || length > size - 8) throw new Error(`its header claims ${length} bytes`)
  const { buffer } = await handle.read(Buffer.alloc(Number(length)), 0, Number(length), 8)
  return buffer.toString('utf8')
}

function parseHeader(json: unknown): Omit<SafetensorsHeader, 'file'> {
  if (typeof json !== 'object' || json === null) throw new Error('its header is not an object')
  const { __metadata__: metadata, ...entries } = json as Record<string, unknown>
  const tensors = new Map<string, TensorHeader>()
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape } = (entry ?? {}) as Partial<TensorHeader>
    if (typeof dtype !== 'string' || !Array.isArray(shape) || !shape.every(Number.isSafeInteger)) {
      throw new Error(`its header gives no type and shape for ${name}`)
    }
    tensors.set(name, { dtype, shape })
  }
  return { tensors, metadata: (metadata ?? {}) as Record<string, string> }
}

/** Whether a tensor has a type that weights can have. */
export function isFloatingPoint({ dtype }: TensorHeader): boolean {
  return ['F8_E4M3', 'F8_E5M2', 'F16', 'BF16', 'F32', 'F64'].includes(dtype)
}

export function isInteger({ dtype }: TensorHeader): boolean {
  return /^[IU](8|16|32|64)$/.test(dtype)
}
