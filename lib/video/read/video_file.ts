import { type FileHandle, open } from 'node:fs/promises'
import { PassThrough, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { invalidArgument, TorchreelError } from '../../errors.js'
import { isFile, whyRefused } from '../../files/regular_file.js'
import { captureFfmpeg, type Ffmpeg, findFfmpeg, runFfmpeg } from '../ffmpeg.js'
import type { RgbImage } from './resize.js'

/** Size and rate of frames that were read. */
export interface FileFrames {
  /** Pixels. */
  readonly width: number
  readonly height: number
  /** Frames per second: constant, or the mean of a rate that varies; undefined for a single picture. */
  readonly fps: number | undefined
  /** Whether the time between frames varies. */
  readonly varies: boolean
}

/**
 * The containers and pictures that are read. None of them names another file: playlists, concat lists and image
 * sequences are not here, since they would open their neighbours.
 */
const containers = [
  ...['mov', 'matroska', 'avi', 'flv', 'mpegts', 'mpeg', 'ogg', 'asf', 'nut', 'mxf'],
  ...['gif', 'apng', 'webp', 'webp_anim', 'webp_pipe', 'png_pipe', 'jpeg_pipe', 'bmp_pipe', 'tiff_pipe'],
  ...['ivf', 'obu', 'av1', 'h264', 'hevc', 'm4v', 'mpegvideo', 'yuv4mpegpipe'],
]

/**
 * Reads a video file with ffmpeg, every frame once, whatever the time between them.
 *
 * ffmpeg gets the open file and not its name: a name could be read as a protocol, or as the pattern of a sequence.
 *
 * @param most frames to read; Infinity: all
 * @param take gets each frame, rgb24
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a file that cannot be read, `ERR_ENCODER_NOT_FOUND`; `signal.reason`
 */
export async function readVideoFile(
  path: string,
  most: number,
  take: (frame: RgbImage) => void,
  { ffmpeg: named, signal }: { ffmpeg: string | undefined; signal: AbortSignal | undefined },
): Promise<FileFrames> {
  const refused = whyRefused(path)
  if (refused !== undefined)
    throw new TorchreelError('ERR_INVALID_ARGUMENT', `video: ${path} ${refused}`, {
      parameter: 'video',
      path,
    })
  if (!(await isFile(path))) throw invalidArgument('video', 'an existing file', path)
  const ffmpeg = await findFfmpeg(named, ['rawvideo'], signal)
  const file = await open(path).catch((cause: Error) => {
    throw new TorchreelError('ERR_INVALID_ARGUMENT', `video: cannot open ${path}: ${cause.message}`, {
      ...{ parameter: 'video', path, cause },
    })
  })
  try {
    const size = await probe(ffmpeg, file.fd, signal)
    const times = await decode(ffmpeg, file.fd, size, most, take, signal)
    return { ...size, ...rateOf(times, size.nominalFps) }
  } catch (error) {
    if (!(error instanceof TorchreelError) || error.code !== 'ERR_ENCODER_FAILED') throw error
    throw await unreadable(path, file, ffmpeg, error)
  } finally {
    await file.close()
  }
}

/** ffmpeg's parameters for the file on descriptor 3. */
const input = [
  ...['-v', 'error', '-nostdin', '-protocol_whitelist', 'file', '-format_whitelist', containers.join(',')],
  ...['-i', 'file:/dev/fd/3', '-map', '0:v:0'],
]

interface Size {
  readonly width: number
  readonly height: number
  /** As the container says it, or as ffmpeg guesses it. */
  readonly nominalFps: number | undefined
}

/** One frame as yuv4mpeg tells size and rate in its first line: YUV4MPEG2 W64 H40 F8:1 … */
async function probe(ffmpeg: Ffmpeg, fd: number, signal: AbortSignal | undefined): Promise<Size> {
  const parameters = [...input, '-frames:v', '1', '-pix_fmt', 'yuv420p', '-f', 'yuv4mpegpipe', 'pipe:1']
  const head = await captureFfmpeg(ffmpeg.path, parameters, signal, fd)
  const [, width, height, rate, base] = (/^YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)/.exec(head) ?? []).map(Number)
  if (!width || !height) throw invalidArgument('video', 'a file with frames', 'a file without')
  return { width, height, nominalFps: rate && base ? rate / base : undefined }
}

/** Decodes the frames; gives the time of each in seconds, if the file tells it. */
async function decode(
  ffmpeg: Ffmpeg,
  fd: number,
  { width, height }: Size,
  most: number,
  take: (frame: RgbImage) => void,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const count = Number.isFinite(most) ? ['-frames:v', String(most)] : []
  // Each frame once, where a constant rate would repeat or drop some. -fps_mode came with ffmpeg 5.1.
  const once = ffmpeg.libavformat >= 60 ? ['-fps_mode', 'passthrough'] : ['-vsync', '0']
  const timeBase = ['-enc_time_base', ffmpeg.libavformat >= 61 ? 'demux' : '-1']
  const pixels = [...count, ...once, '-pix_fmt', 'rgb24', '-f', 'rawvideo', 'pipe:1']
  const times = ['-map', '0:v:0', ...count, ...once, ...timeBase, '-f', 'framecrc', 'pipe:4']
  const stopped = new AbortController()
  const frames = new RawFrames(width, height, take)
  // A refused frame ends ffmpeg.
  frames.on('error', (error) => stopped.abort(error))
  const either = signal ? AbortSignal.any([signal, stopped.signal]) : stopped.signal
  const report = new PassThrough()
  const list = text(report)
  await runFfmpeg(ffmpeg.path, [...input, ...pixels, ...times], {
    ...{ stdout: frames, file: fd, report, signal: either },
  })
  report.end()
  await new Promise<void>((resolve, reject) => {
    frames.once('error', reject)
    frames.end(resolve)
  })
  return parseTimes(await list)
}

/**
 * framecrc's lines: `#tb 0: 1/1000`, then for each frame `stream, dts, pts, duration, size, checksum`. A raw stream (.h264)
 * has no times. ffmpeg makes some up, in units of 1/1200000.
 */
function parseTimes(list: string): number[] {
  const [, numerator, denominator] = (/^#tb 0: (\d+)\/(\d+)/m.exec(list) ?? []).map(Number)
  if (denominator === 1_200_000) return []
  const tick = (numerator ?? Number.NaN) / (denominator ?? Number.NaN)
  return Array.from(list.matchAll(/^\d+, *-?\d+, *(-?\d+),/gm), ([, pts]) => Number(pts) * tick)
}

/** The nominal rate, where it puts each frame within half a frame of its time; else the mean. */
function rateOf(
  times: readonly number[],
  nominalFps: number | undefined,
): Pick<FileFrames, 'fps' | 'varies'> {
  const first = times[0] ?? 0
  /** The longest time between a frame and its place at a constant rate, in seconds. */
  const error = (fps: number) =>
    times.reduce((most, time, index) => Math.max(most, Math.abs(time - first - index / fps)), 0)
  const isConstant = (fps: number) => error(fps) <= 0.5 / fps
  // A GIF counts hundredths of a second, rounded. From these, ffmpeg takes 24 frames per second for 24000/1001.
  const inHundredths =
    times.length > 1 && times.every((time) => Math.abs(100 * time - Math.round(100 * time)) < 1e-6)
  const likely = (fps: number) => {
    const whole = Math.round(fps)
    return inHundredths && error(fps) > 1e-6 && whole > 0 && error(whole) < 0.00501 ? whole : fps
  }
  if (nominalFps !== undefined && isConstant(nominalFps)) return { fps: likely(nominalFps), varies: false }
  const span = (times.at(-1) ?? 0) - first
  if (!(span > 0)) return { fps: nominalFps, varies: false }
  const mean = likely(Math.round(((times.length - 1) / span) * 1000) / 1000)
  return { fps: mean, varies: !isConstant(mean) }
}

async function unreadable(
  path: string,
  file: FileHandle,
  ffmpeg: Ffmpeg,
  failure: TorchreelError,
): Promise<TorchreelError> {
  const { stderrTail = '', exitCode = null } = failure
  let advice = stderrTail.trim() || failure.message
  if (await isAnimatedWebp(file)) {
    advice = `ffmpeg ${ffmpeg.version} cannot read an animated WebP; convert it to mp4, gif or apng first`
  } else if (/not on whitelist|m3u8/i.test(advice)) {
    advice =
      'it is a playlist, or a format that may name other files; pass an mp4, mov, mkv, webm, avi, gif or apng'
  }
  return new TorchreelError('ERR_INVALID_ARGUMENT', `video: ffmpeg cannot read ${path}: ${advice}`, {
    parameter: 'video',
    path,
    exitCode,
    stderrTail,
    cause: failure,
  })
}

/** RFC 9649: RIFF, its size, WEBP, then a chunk VP8X whose flags have the animation bit. */
async function isAnimatedWebp(file: FileHandle): Promise<boolean> {
  const { buffer } = await file.read(Buffer.alloc(21), 0, 21, 0)
  return /^RIFF.{4}WEBPVP8X/s.test(buffer.toString('latin1')) && ((buffer[20] as number) & 2) !== 0
}

/** Cuts a stream of rgb24 into frames. */
class RawFrames extends Writable {
  readonly #width: number
  readonly #height: number
  readonly #take: (frame: RgbImage) => void
  #data: Uint8Array
  #filled = 0

  constructor(width: number, height: number, take: (frame: RgbImage) => void) {
    super()
    this.#width = width
    this.#height = height
    this.#take = take
    this.#data = new Uint8Array(width * height * 3)
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    try {
      for (let at = 0; at < chunk.length; ) {
        const part = chunk.subarray(at, at + this.#data.length - this.#filled)
        this.#data.set(part, this.#filled)
        this.#filled += part.length
        at += part.length
        if (this.#filled < this.#data.length) continue
        this.#take({ width: this.#width, height: this.#height, data: this.#data })
        this.#data = new Uint8Array(this.#data.length)
        this.#filled = 0
      }
      done()
    } catch (error) {
      done(error as Error)
    }
  }
}
