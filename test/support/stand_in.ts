import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Writes an executable that replaces ffmpeg. It answers and decodes like the real one, and runs `body` to encode. The body
 * is JavaScript with the variables `real` (path of the real ffmpeg), `args`, `output` (the file to write), `fs`, and
 * `pass()`, which runs the real one with the same arguments and exits with its code.
 */
export function standIn(folder: string, real: string, body: string, name = 'ffmpeg'): string {
  const path = join(folder, name)
  writeFileSync(
    path,
    `#!${process.execPath}
const fs = require('node:fs')
const { spawnSync } = require('node:child_process')
const real = ${JSON.stringify(real)}
const args = process.argv.slice(2)
const output = args.at(-1).replace(/^file:/, '')
function pass() {
  const { status } = spawnSync(real, args, { stdio: 'inherit' })
  process.exit(status ?? 1)
}
if (['-version', '-encoders', 'framecrc'].some((word) => args.includes(word))) pass()
${body}
`,
  )
  chmodSync(path, 0o755)
  return path
}

/** Frames of a moving colour pattern: red to the right, green down, blue over time, and a white square. */
export function pattern(width: number, height: number, frameCount: number): Uint8Array {
  const data = new Uint8Array(frameCount * height * width * 3)
  let offset = 0
  for (let frame = 0; frame < frameCount; frame++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const inSquare = Math.abs(x - 4 * frame - 8) < 6 && Math.abs(y - height / 2) < 6
        data[offset++] = inSquare ? 255 : (x * 255) / width
        data[offset++] = inSquare ? 255 : (y * 255) / height
        data[offset++] = inSquare ? 255 : (frame * 255) / frameCount
      }
    }
  }
  return data
}

/** Bytes that do not compress. */
export function noise(length: number): Uint8Array {
  let state = 1
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> 24
  })
}
