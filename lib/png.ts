import { promisify } from 'node:util'
import { deflate } from 'node:zlib'

const deflateAsync = promisify(deflate)

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const colourTypeRgb = 2
const filterSub = 1

/**
 * Encodes one frame as a PNG (ISO/IEC 15948): 8-bit RGB, no interlacing.
 *
 * @param frame rgb24, (height, width, 3)
 */
export async function encodePng(frame: Uint8Array, width: number, height: number): Promise<Buffer> {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header[8] = 8
  header[9] = colourTypeRgb
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', await deflateAsync(filterRows(frame, width, height))),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

/** Each row as its filter's number and the differences to the pixel on the left (9.2, filter type Sub). */
function filterRows(frame: Uint8Array, width: number, height: number): Uint8Array {
  const stride = width * 3
  const rows = new Uint8Array(height * (stride + 1))
  for (let y = 0; y < height; y++) {
    const from = y * stride
    const to = y * (stride + 1) + 1
    rows[to - 1] = filterSub
    for (let x = 0; x < stride; x++) {
      const left = x < 3 ? 0 : (frame[from + x - 3] as number)
      rows[to + x] = (frame[from + x] as number) - left
    }
  }
  return rows
}

function chunk(type: string, data: Uint8Array): Buffer {
  const whole = Buffer.alloc(data.length + 12)
  whole.writeUInt32BE(data.length, 0)
  whole.write(type, 4, 'latin1')
  whole.set(data, 8)
  whole.writeUInt32BE(crc32(whole.subarray(4, data.length + 8)), data.length + 8)
  return whole
}

/** CRC-32 of each byte value: the polynomial x³² + x²⁶ + … + 1 with its bits reversed. */
const crcTable = Uint32Array.from({ length: 256 }, (_, value) => {
  let crc = value
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  return crc
})

function crc32(data: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of data) crc = (crc >>> 8) ^ (crcTable[(crc ^ byte) & 255] as number)
  return (crc ^ 0xffffffff) >>> 0
}
