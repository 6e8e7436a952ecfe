import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { findFfmpeg, Video } from 'torchreel'
import { pattern } from './stand_in.js'
import { decodeWebp } from './webp.js'

/** The ffmpeg of the tests: the first one found. */
export const found = await findFfmpeg()
export const real = found.path
delete process.env.FFMPEG_PATH
delete process.env.FFMPEG_BIN

/** Two new empty folders per call, one for saved files and one for tools. Removed after the tests. */
export function emptyFolders(): () => { folder: string; tools: string } {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'torchreel-video-')))
  after(() => rmSync(base, { recursive: true, force: true }))
  let count = 0
  return () => {
    const folder = join(base, `${++count}`)
    const tools = join(base, `${count}.tools`)
    mkdirSync(folder)
    mkdirSync(tools)
    return { folder, tools }
  }
}

export function video(width = 64, height = 48, frameCount = 8, fps = 8): Video {
  return new Video({ width, height, fps, data: pattern(width, height, frameCount) })
}

export interface Decoded {
  /** ffmpeg's description of the stream. */
  readonly line: string
  readonly width: number
  readonly height: number
  readonly fps: number
  /** rgb24 of every frame. */
  readonly frames: Uint8Array
}

/** Size, frame rate and pixel format of a file, and all frames decoded to rgb24. */
export function decode(path: string): Decoded {
  if (path.endsWith('.webp')) return decodeWebp(path, real)
  const input = ['-v', 'error', '-xerror', '-i', path]
  // By default ffmpeg rounds down when it converts to rgb, and repeats frames to fill gaps.
  const exact = [
    '-vf',
    'scale=flags=bicubic+accurate_rnd+full_chroma_int',
    '-pix_fmt',
    'rgb24',
    '-vsync',
    '0',
  ]
  const raw = spawnSync(real, [...input, ...exact, '-f', 'rawvideo', 'pipe:1'], { maxBuffer: 1 << 28 })
  assert.equal(raw.status, 0, raw.stderr.toString())
  const report = spawnSync(real, ['-i', path]).stderr.toString()
  const line = /Stream #0:0.*Video: .*/.exec(report)?.[0] ?? ''
  const [, width, height] = /, (\d+)x(\d+)/.exec(line) ?? []
  const fps = Number(/, ([\d.]+) tbr/.exec(line)?.[1])
  return { line, width: Number(width), height: Number(height), fps, frames: raw.stdout as Uint8Array }
}

/** Mean absolute difference of two byte sequences of the same length. */
export function difference(a: Uint8Array, b: Uint8Array): number {
  assert.equal(a.length, b.length)
  return a.reduce((sum, value, index) => sum + Math.abs(value - (b[index] as number)), 0) / a.length
}

/** Sets environment variables until the end of the block. */
export function withEnvironment(changes: Record<string, string | undefined>): Disposable {
  const before = Object.fromEntries(Object.keys(changes).map((name) => [name, process.env[name]]))
  const apply = (values: Record<string, string | undefined>) => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  apply(changes)
  return { [Symbol.dispose]: () => apply(before) }
}

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(10)
}

/** Whether a process has ended. A zombie has. */
export function isGone(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return true
  }
}

/** The body of a fake ffmpeg that reports its start, then neither reads nor writes until its stdin is closed. */
export function stall(started: string): string {
  return `
fs.writeFileSync(${JSON.stringify(started)}, String(process.pid))
const reading = setInterval(() => {}, 1000)
if (process.env.STAND_IN_ENDS_WITH_STDIN) process.stdin.resume().on('end', () => clearInterval(reading))
`
}

/** Runs the tests' ffmpeg to its end. */
export function ffmpeg(parameters: readonly string[]): void {
  const { status, stderr } = spawnSync(real, ['-v', 'error', '-nostdin', '-y', ...parameters])
  assert.equal(status, 0, stderr.toString())
}
