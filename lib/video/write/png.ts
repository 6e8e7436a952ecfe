import { promisify } from 'node:util'
import { deflate } from 'node:zlib'

const deflateAsync = promisify(deflate)

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const colourTypeRgb = 2
const filterSub = 1

interface Size {
  readonly width: number
  readonly height: number
}

/**
 * Encodes one frame as a PNG (ISO/IEC 15948): 8-bit RGB, no interlacing.
 *
 * @param frame rgb24, (height, width, 3)
 * @param comment the text for the keyword Comment
 */
export async function encodePng(frame: Uint8Array, size: Size, comment?: string): Promise<Buffer> {
  return Buffer.concat([...opening(size, comment), chunk('IDAT', await compress(frame, size)), ending])
}

/**
 * Encodes frames as an animated PNG that loops (W3C, PNG third edition, 4.9). The first frame is also the PNG's still
 * picture, for readers that do not support animation.
 *
 * @param frames rgb24, (height, width, 3)
 * @param frameCount the number of frames, which the header contains
 */
export async function* encodeApng(
  frames: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  frameCount: number,
  video: Size & { readonly fps: number },
  comment?: string,
): AsyncGenerator<Buffer> {
  const [header, ...text] = opening(video, comment)
  yield Buffer.concat([header, chunk('acTL', uint32s(frameCount, 0)), ...text])
  const { numerator, denominator } = delay(video.fps)
  let sequence = 0
  for await (const frame of frames) {
    const first = sequence === 0
    // 20 bytes of numbers, the delay, then dispose_op 0 (none) and blend_op 0 (source).
    const control = Buffer.concat([uint32s(sequence++, video.width, video.height, 0, 0), Buffer.alloc(6)])
    control.writeUInt16BE(numerator, 20)
    control.writeUInt16BE(denominator, 22)
    const pixels = await compress(frame, video)
    const data = first ? chunk('IDAT', pixels) : chunk('fdAT', Buffer.concat([uint32s(sequence++), pixels]))
    yield Buffer.concat([chunk('fcTL', control), data])
  }
  yield ending
}

/** The duration of a frame in seconds, as a fraction of two 16-bit numbers. */
function delay(fps: number): { numerator: number; denominator: number } {
  const numerator = [1, 10, 100, 1000].find((scale) => Number.isInteger(fps * scale)) ?? 1000
  const scale = fps * numerator > 0xffff ? 100 : numerator
  return { numerator: scale, denominator: Math.round(fps * scale) }
}

/** Signature and header, and the comment if there is one. */
function opening({ width, height }: Size, comment: string | undefined): [Buffer, ...Buffer[]] {
  const header = Buffer.concat([uint32s(width, height), Buffer.from([8, colourTypeRgb, 0, 0, 0])])
  const start = Buffer.concat([signature, chunk('IHDR', header)])
  if (comment === undefined) return [start]
  // Keyword, not compressed, no language, no translated keyword, text in UTF-8.
  return [start, chunk('iTXt', Buffer.from(`Comment\0\0\0\0\0${comment}`))]
}

function uint32s(...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4)
  numbers.forEach((number, index) => {
    bytes.writeUInt32BE(number, index * 4)
  })
  return bytes
}

function compress(frame: Uint8Array, size: Size): Promise<Buffer> {
  return deflateAsync(filterRows(frame, size))
}

/** Each row as the filter's number and the differences from the pixel to the left (9.2, filter type Sub). */
function filterRows(frame: Uint8Array, { width, height }: Size): Uint8Array {
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

const ending = chunk('IEND', Buffer.alloc(0))
