import { readFile } from 'node:fs/promises'

/**
 * What an animated WebP shows and for how long, read from its chunks (RFC 9649): ffmpeg before version 8 cannot decode
 * one. Frames that are alike are one in the file, shown as long as they all are; if all are, it is a picture.
 *
 * @returns milliseconds in all; undefined for a picture
 * @throws Error if the file is not whole
 */
export async function webpDuration(path: string): Promise<number | undefined> {
  const file = await readFile(path)
  const length = file.length >= 12 ? file.readUInt32LE(4) + 8 : 0
  if (length !== file.length || file.toString('latin1', 0, 4) !== 'RIFF') throw new Error('it is cut off')
  let duration: number | undefined
  let pictures = 0
  for (let at = 12; at < file.length; ) {
    if (at + 8 > file.length) throw new Error('a chunk is cut off')
    const type = file.toString('latin1', at, at + 4)
    const start = at + 8
    const size = file.readUInt32LE(at + 4)
    at = start + size + (size % 2)
    if (at > file.length) throw new Error(`its chunk ${type} is cut off`)
    // x, y, width and height of the part that changes, then the duration: three bytes each.
    if (type === 'ANMF') duration = (duration ?? 0) + file.readUIntLE(start + 12, 3)
    if (type === 'ANMF' || type.startsWith('VP8 ') || type === 'VP8L') pictures++
  }
  if (pictures === 0) throw new Error('it holds no picture')
  return duration
}
