import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Decoded } from './video.js'

interface Chunk {
  readonly type: string
  readonly data: Buffer
}

function* chunks(bytes: Buffer, from: number): Generator<Chunk> {
  for (let at = from; at < bytes.length; ) {
    const size = bytes.readUInt32LE(at + 4)
    yield { type: bytes.toString('latin1', at, at + 4), data: bytes.subarray(at + 8, at + 8 + size) }
    at += 8 + size + (size % 2)
  }
}

/** One picture's chunks as a WebP file of its own. */
function still(payload: Buffer, width: number, height: number): Buffer {
  const extended = Buffer.alloc(18)
  extended.write('VP8X', 'latin1')
  extended.writeUInt32LE(10, 4)
  extended[8] = 0x10
  extended.writeUIntLE(width - 1, 12, 3)
  extended.writeUIntLE(height - 1, 15, 3)
  const body = payload.toString('latin1', 0, 4) === 'ALPH' ? [extended, payload] : [payload]
  const file = Buffer.concat([Buffer.from('RIFF....WEBP'), ...body])
  file.writeUInt32LE(file.length - 8, 4)
  return file
}

/** Decodes one picture from a file, because ffmpeg of 2018 finds no stream in a WebP on stdin. */
function rgba(ffmpeg: string, picture: Buffer, path: string): Buffer {
  writeFileSync(path, picture)
  const exact = ['-vf', 'scale=flags=bicubic+accurate_rnd+full_chroma_int', '-pix_fmt', 'rgba']
  const { status, stdout, stderr } = spawnSync(
    ffmpeg,
    ['-v', 'error', '-i', path, ...exact, '-f', 'rawvideo', 'pipe:1'],
    { maxBuffer: 1 << 28 },
  )
  rmSync(path)
  assert.equal(status, 0, stderr.toString())
  return stdout
}

/**
 * Decodes an animated WebP (RFC 9649), which ffmpeg before version 8 cannot. Decodes each part as a picture and draws it on
 * the canvas. A part that lasts n frames counts n times. The frame rate is that of the shortest part.
 */
export function decodeWebp(path: string, ffmpeg: string): Decoded {
  const file = readFileSync(path)
  const all = [...chunks(file, 12)]
  const canvas = all.find(({ type }) => type === 'VP8X')?.data
  if (!canvas) {
    const [, width, height] = /, (\d+)x(\d+)/.exec(spawnSync(ffmpeg, ['-i', path]).stderr.toString()) ?? []
    const frames = rgba(ffmpeg, file, `${path}.picture.webp`).filter((_, at) => at % 4 !== 3)
    return { line: 'webp', width: Number(width), height: Number(height), fps: Number.NaN, frames }
  }
  const [width, height] = [canvas.readUIntLE(4, 3) + 1, canvas.readUIntLE(7, 3) + 1]
  const parts = all.filter(({ type }) => type === 'ANMF').map(({ data }) => data)
  const shortest = Math.min(...parts.map((part) => part.readUIntLE(12, 3)))
  const picture = Buffer.alloc(width * height * 3)
  const frames: Buffer[] = []
  for (const part of parts) {
    const [left, top] = [part.readUIntLE(0, 3) * 2, part.readUIntLE(3, 3) * 2]
    const [partWidth, partHeight] = [part.readUIntLE(6, 3) + 1, part.readUIntLE(9, 3) + 1]
    const pixels = rgba(ffmpeg, still(part.subarray(16), partWidth, partHeight), `${path}.picture.webp`)
    for (let at = 0; at < pixels.length; at += 4) {
      if (pixels[at + 3] === 0) continue
      const [x, y] = [(at / 4) % partWidth, Math.floor(at / 4 / partWidth)]
      pixels.copy(picture, ((top + y) * width + left + x) * 3, at, at + 3)
    }
    const shown = Math.round(part.readUIntLE(12, 3) / shortest)
    for (let time = 0; time < shown; time++) frames.push(Buffer.from(picture))
  }
  return { line: 'webp', width, height, fps: 1000 / shortest, frames: Buffer.concat(frames) }
}
