import { stat } from 'node:fs/promises'
import { Writable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isUint8Array } from 'node:util/types'
import { type Kind, text } from '../../checks/kinds.js'
import { invalidArgument, TorchreelError } from '../../errors.js'
import { captureFfmpeg, findFfmpeg, runFfmpeg } from '../ffmpeg.js'
import { Video } from '../video.js'
import { type RgbImage, resizeImage } from './resize.js'

/** A video to start from: a file that ffmpeg can read, a {@link Video}, or frames of rgb24. */
export type VideoInput = string | URL | Video | readonly RgbImage[]

/** What the caller wants of it. What is not given is the video's own. */
export interface SourceWishes {
  readonly width?: number | undefined
  readonly height?: number | undefined
  /** The first so many. */
  readonly frames?: number | undefined
  readonly fps?: number | undefined
}

interface ReadingOptions {
  /** What its own size goes to the nearest multiple of, in pixels. */
  readonly multiple: number
  readonly maxPixels: number
  /** The ffmpeg to use, where the caller names one. */
  readonly ffmpeg: string | undefined
  readonly signal: AbortSignal | undefined
}

export interface SourceVideo {
  readonly width: number
  readonly height: number
  readonly frames: number
  readonly fps: number | undefined
  /** rgb24, (frames, height, width, 3). */
  readonly data: Uint8Array
  /** What was done to the video without being asked for. */
  readonly warnings: readonly string[]
}

/** A file, a Video, or frames; each frame is looked at. */
export const videoInput: Kind<VideoInput> = {
  expected: 'a file, a Video, or frames { width, height, data } of rgb24, all of one size',
  schema: text.schema,
  read(value, name) {
    if (value instanceof Video || (value instanceof URL && value.protocol === 'file:')) return value
    if (typeof value === 'string') return text.read(value, name)
    const frames = Array.isArray(value) ? (value as Partial<RgbImage | null>[]) : []
    const [first] = frames
    const bad = frames.findIndex(
      (frame) =>
        !isUint8Array(frame?.data) ||
        frame.width !== first?.width ||
        frame.height !== first?.height ||
        frame.data.byteLength !== (frame.width ?? 0) * (frame.height ?? 0) * 3,
    )
    if (bad >= 0) throw invalidArgument(`${name}[${bad}]`, this.expected, frames[bad])
    return frames.length > 0 ? (frames as RgbImage[]) : undefined
  },
}

/**
 * Reads a video and brings it to the size that is wanted; its own size goes to the nearest multiple of `multiple`.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a file that cannot be read or has too few frames,
 * `ERR_LIMIT_EXCEEDED` for more pixels than `maxPixels`, `ERR_ENCODER_NOT_FOUND` where a file needs an ffmpeg that is not
 * there; `signal.reason`
 */
export async function readSourceVideo(
  input: VideoInput,
  wishes: SourceWishes,
  { multiple, maxPixels, ffmpeg, signal }: ReadingOptions,
): Promise<SourceVideo> {
  const source =
    typeof input === 'string' || input instanceof URL
      ? await fileSource(input, ffmpeg, signal)
      : memorySource(input)
  const nearest = (side: number) => Math.max(multiple, Math.round(side / multiple) * multiple)
  const width = wishes.width ?? nearest(source.width)
  const height = wishes.height ?? nearest(source.height)
  const resized: Uint8Array[] = []
  const most = wishes.frames ?? source.frames ?? Number.POSITIVE_INFINITY
  await source.read(most, (frame) => {
    if ((resized.length + 1) * width * height > maxPixels) {
      throw new TorchreelError('ERR_LIMIT_EXCEEDED', `video: it has more than ${maxPixels} pixels`, {
        parameter: 'video',
        expected: `at most ${maxPixels} pixels; option frames takes fewer of them`,
      })
    }
    resized.push(resizeImage(frame, width, height).data)
  })
  if (resized.length === 0)
    throw new TorchreelError('ERR_INVALID_ARGUMENT', 'video has no frames', {
      parameter: 'video',
      expected: 'a video with frames',
      received: input,
    })
  if (wishes.frames !== undefined && resized.length < wishes.frames) {
    throw invalidArgument('frames', `at most ${resized.length}, as the video has`, wishes.frames)
  }
  const unasked =
    (wishes.width === undefined && width !== source.width) ||
    (wishes.height === undefined && height !== source.height)
  return {
    width,
    height,
    frames: resized.length,
    fps: wishes.fps ?? source.fps,
    data: Buffer.concat(resized),
    warnings: unasked
      ? [
          `video: resized from ${source.width}×${source.height} to ${width}×${height}, multiples of ${multiple}`,
        ]
      : [],
  }
}

interface Source {
  readonly width: number
  readonly height: number
  /** Undefined where only reading tells. */
  readonly frames: number | undefined
  readonly fps: number | undefined
  /** Hands on the first `most` frames. */
  read(most: number, take: (frame: RgbImage) => void): Promise<void>
}

function memorySource(input: Video | readonly RgbImage[]): Source {
  const { width, height } = input instanceof Video ? input : (input[0] as RgbImage)
  const frames = input instanceof Video ? input.frameCount : input.length
  const frame = (index: number) =>
    input instanceof Video ? { width, height, data: input.frame(index) } : (input[index] as RgbImage)
  return {
    width,
    height,
    frames,
    fps: input instanceof Video ? input.fps : undefined,
    async read(most, take) {
      for (let index = 0; index < Math.min(most, frames); index++) {
        take(frame(index))
        await setImmediate()
      }
    },
  }
}

async function fileSource(
  file: string | URL,
  ownFfmpeg: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Source> {
  const path = file instanceof URL ? fileURLToPath(file) : file
  const isFile = await stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
  if (!isFile) throw invalidArgument('video', 'a file that is there', path)
  const ffmpeg = await findFfmpeg(ownFfmpeg, ['rawvideo'], signal)
  // A playlist must not open what else lies on the machine or in the network.
  const input = ['-protocol_whitelist', 'file', '-i', `file:${path}`]
  const from = ['-v', 'error', '-nostdin', ...input, '-map', '0:v:0']
  const run = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof TorchreelError) || error.code !== 'ERR_ENCODER_FAILED') throw error
      const { stderrTail = '', exitCode = null } = error
      const message = `video: ffmpeg cannot read ${path}: ${stderrTail.trim() || error.message}`
      throw new TorchreelError('ERR_INVALID_ARGUMENT', message, {
        parameter: 'video',
        path,
        exitCode,
        stderrTail,
        cause: error,
      })
    }
  }
  // One frame as yuv4mpeg says size and rate in its first line: YUV4MPEG2 W64 H40 F8:1 …
  const probe = [...from, '-frames:v', '1', '-pix_fmt', 'yuv420p', '-f', 'yuv4mpegpipe', '-']
  const head = await run(captureFfmpeg(ffmpeg.path, probe, signal))
  const [, width, height, rate, base] = (/^YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)/.exec(head) ?? []).map(Number)
  if (!width || !height) throw invalidArgument('video', 'a file with frames', path)
  return {
    width,
    height,
    frames: undefined,
    fps: rate && base ? rate / base : undefined,
    async read(most, take) {
      const count = Number.isFinite(most) ? ['-frames:v', String(most)] : []
      const raw = [...from, ...count, '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-']
      const stopped = new AbortController()
      const frames = new RawFrames(width, height, take)
      // A frame that is refused ends ffmpeg.
      frames.on('error', (error) => stopped.abort(error))
      const either = signal ? AbortSignal.any([signal, stopped.signal]) : stopped.signal
      await run(runFfmpeg(ffmpeg.path, raw, { stdout: frames, signal: either }))
      await new Promise<void>((resolve, reject) => {
        frames.once('error', reject)
        frames.end(resolve)
      })
    },
  }
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
