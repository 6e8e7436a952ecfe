import { readFileSync, writeFileSync } from 'node:fs'

/** A tensor of a safetensors file. */
export interface FileTensor {
  dtype: string
  shape: number[]
  /** Little-endian, row-major. */
  bytes: Buffer
}

export type FileTensors = Map<string, FileTensor>

export function readSafetensors(file: string): FileTensors {
  const content = readFileSync(file)
  const end = 8 + Number(content.readBigUInt64LE(0))
  const header = JSON.parse(content.toString('utf8', 8, end)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  const tensors: FileTensors = new Map()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const [begin, stop] = entry.data_offsets
    tensors.set(name, {
      dtype: entry.dtype,
      shape: entry.shape,
      bytes: content.subarray(end + begin, end + stop),
    })
  }
  return tensors
}

export function writeSafetensors(file: string, tensors: FileTensors): void {
  let offset = 0
  const header: Record<string, unknown> = {}
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] }
    offset += bytes.length
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(file, Buffer.concat([length, text, ...[...tensors.values()].map(({ bytes }) => bytes)]))
}

/** The numbers of a float32 tensor. */
export function float32(tensors: FileTensors, name: string): Float32Array {
  return new Float32Array(bytesOf(tensors, name, 'F32'))
}

/** The numbers of a uint8 tensor. */
export function uint8(tensors: FileTensors, name: string): Uint8Array {
  return new Uint8Array(bytesOf(tensors, name, 'U8'))
}

/** The numbers of an int64 tensor. */
export function int64(tensors: FileTensors, name: string): number[] {
  return Array.from(new BigInt64Array(bytesOf(tensors, name, 'I64')), Number)
}

function bytesOf(tensors: FileTensors, name: string, dtype: string): ArrayBuffer {
  const tensor = tensors.get(name)
  if (tensor?.dtype !== dtype) throw new Error(`${name} is ${tensor?.dtype ?? 'missing'}, not ${dtype}`)
  return new Uint8Array(tensor.bytes).buffer
}
