import { readFile } from 'node:fs/promises'

/**
 * Reads the duration of an animated WebP from its chunks (RFC 9649), because ffmpeg before version 8 cannot decode one.
 * ffmpeg merges identical consecutive frames into one with a longer duration. If all frames are identical, the file is a
 * still image.
 *
 * @returns the total duration in milliseconds; undefined for a still image
 * @throws Error if the file is incomplete
 */
export async function webpDuration(path: string): Promise<number | undefined> {
  const file = await readFile(path)
  const length = file.length >= 12 ? file.readUInt32LE(4) + 8 : 0
  if (length !== file.length || file.toString('latin1', 0, 4) !== 'RIFF') throw new Error('it is truncated')
  let duration: number | undefined
  let pictures = 0
  for (let at = 12; at < file.length; ) {
    if (at + 8 > file.length) throw new Error('a chunk is truncated')
    const type = file.toString('latin1', at, at + 4)
    const start = at + 8
    const size = file.readUInt32LE(at + 4)
    at = start + size + (size % 2)
    if (at > file.length) throw new Error(`its chunk ${type} is truncated`)
    // x, y, width and height of the changed part, then the duration: three bytes each.
    if (type === 'ANMF') duration = (duration ?? 0) + file.readUIntLE(start + 12, 3)
    if (type === 'ANMF' || type.startsWith('VP8 ') || type === 'VP8L') pictures++
  }
  if (pictures === 0) throw new Error('it has no picture')
  return duration
}
