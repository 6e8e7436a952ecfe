import { PassThrough, type Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { isUint8Array } from 'node:util/types'
import {
  checkFile,
  checkStream,
  type EncodeOptions,
  type EncodePlan,
  type EncodeToFileOptions,
  encodeToFile,
  encodeToStream,
  type FrameSource,
} from './encode.js'
import { invalidArgument, TorchreelError } from './errors.js'
import { suggestion } from './suggestion.js'
import type { VideoFormat } from './video_format.js'

export type { VideoFormat }

/** How a video is encoded. */
export interface VideoEncodeOptions extends EncodeOptions {}

/** How a video is saved. */
export interface VideoSaveOptions extends EncodeToFileOptions {}

/** Denoised latents. */
export interface Latents {
  /** float32, row-major in `shape`. */
  readonly data: Float32Array
  /** (1, C, frames, height / 8, width / 8) for the published models. */
  readonly shape: readonly number[]
}

/** What is known of how a video was made. All of it is optional. */
export interface VideoFacts {
  /** The seed of the noise. */
  readonly seed?: number | undefined
  /** Milliseconds by stage. */
  readonly timings?: Readonly<Record<string, number>> | undefined
  /** The checkpoint. */
  readonly model?: string | undefined
  /** The class of the scheduler. */
  readonly scheduler?: string | undefined
  /** Where the networks computed: 'cpu', 'cuda:0' … */
  readonly device?: string | undefined
  /** What they computed in. */
  readonly dtype?: string | undefined
  /** The version of libtorch. */
  readonly libtorch?: string | undefined
  /** Where they were asked for. */
  readonly latents?: Latents | undefined
  /** What the caller should know, such as a prompt cut short. */
  readonly warnings?: readonly string[] | undefined
}

export interface VideoContents extends VideoFacts {
  readonly width: number
  readonly height: number
  /** Frames per second. */
  readonly fps: number
  /** rgb24, (frames, height, width, 3). Kept as it is, not copied. */
  readonly data: Uint8Array
}

/** Frames in memory, and what is known of how they were made. */
export class Video implements VideoFacts {
  readonly width: number
  readonly height: number
  readonly frameCount: number
  /** Frames per second. */
  readonly fps: number
  /** rgb24, (frameCount, height, width, 3). */
  readonly data: Uint8Array
  readonly seed: number | undefined
  readonly timings: Readonly<Record<string, number>> | undefined
  readonly model: string | undefined
  readonly scheduler: string | undefined
  readonly device: string | undefined
  readonly dtype: string | undefined
  readonly libtorch: string | undefined
  readonly latents: Latents | undefined
  readonly warnings: readonly string[]

  /** @throws TorchreelError `ERR_INVALID_ARGUMENT` if `data` is not a whole number of frames, at least one */
  constructor(contents: VideoContents) {
    const { width, height, fps, data } = contents
    checkSize('width', width)
    checkSize('height', height)
    if (!(typeof fps === 'number' && fps > 0 && fps < Infinity)) {
      throw invalidArgument('fps', 'a positive number', fps)
    }
    const frameCount = isUint8Array(data) ? data.byteLength / (width * height * 3) : Number.NaN
    if (!(Number.isInteger(frameCount) && frameCount > 0)) {
      const expected = `a Uint8Array of frames · ${height} · ${width} · 3 bytes`
      throw invalidArgument('data', expected, isUint8Array(data) ? data.byteLength : data)
    }
    this.width = width
    this.height = height
    this.frameCount = frameCount
    this.fps = fps
    this.data = data
    this.seed = contents.seed
    this.timings = contents.timings
    this.model = contents.model
    this.scheduler = contents.scheduler
    this.device = contents.device
    this.dtype = contents.dtype
    this.libtorch = contents.libtorch
    this.latents = contents.latents
    this.warnings = contents.warnings ?? []
  }

  /**
   * One frame as rgb24, (height, width, 3): a view of `data`, not a copy.
   *
   * @param index from 0
   */
  frame(index: number): Uint8Array {
    if (!(Number.isSafeInteger(index) && index >= 0 && index < this.frameCount)) {
      throw invalidArgument('index', `an integer from 0 to ${this.frameCount - 1}`, index)
    }
    const length = this.width * this.height * 3
    return this.data.subarray(index * length, (index + 1) * length)
  }

  /**
   * Saves the video. The name says how:
   *
   * | name | format |
   * |---|---|
   * | `.mp4` | H.264 High, 4:2:0, index at the front: plays in every browser |
   * | `.webm` | VP9, or VP8 where ffmpeg has only that |
   * | `.gif` | 256 colours chosen for this video; up to 50 frames per second |
   * | `.png` with `%d` or `%04d` | one lossless PNG per frame, counted from 1; needs no ffmpeg |
   * | a folder, ending in `/` | the same, as `frame_0001.png` … ; the folder is made |
   *
   * The file appears whole or not at all: it is written beside the target, decoded once to count its frames, flushed
   * and renamed. mp4 and webm have even sides: an odd width or height grows by a copy of the last column or row.
   *
   * @returns the absolute path
   * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_OUTPUT_EXISTS`, `ERR_OUTPUT_WRITE` (a folder that is missing or
   *   takes no files, a full disk), `ERR_ENCODER_NOT_FOUND`, `ERR_ENCODER_FAILED`
   */
  async save(path: string | URL, options: VideoSaveOptions = {}): Promise<string> {
    checkOptions(options, saveOptions)
    return encodeToFile(this.#source(), path, options)
  }

  /** The encoded video in memory, as {@link Video.stream} gives it. */
  async toBuffer(format: VideoFormat, options: VideoEncodeOptions = {}): Promise<Buffer> {
    return buffer(this.stream(format, options))
  }

  /**
   * The encoded video as a stream of bytes. An mp4 is fragmented, as a stream must be. Destroying the stream ends the
   * encoding. A failure is the stream's error; only a whole video ends it.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT`; the stream errs with `ERR_ENCODER_NOT_FOUND`, `ERR_ENCODER_FAILED`
   */
  stream(format: VideoFormat, options: VideoEncodeOptions = {}): Readable {
    checkOptions(options, encodeOptions)
    const source = this.#source()
    checkStream(source, format, options)
    const output = new PassThrough()
    const closed = new AbortController()
    output.once('close', () => closed.abort())
    const signal = options.signal ? AbortSignal.any([options.signal, closed.signal]) : closed.signal
    encodeToStream(source, format, output, { ...options, signal }).then(
      () => output.end(),
      (error: Error) => output.destroy(error),
    )
    return output
  }

  #source(): FrameSource {
    const expected = this.frameCount * this.height * this.width * 3
    if (this.data.byteLength !== expected) {
      // The constructor has checked it: the buffer was transferred or resized since.
      throw new TorchreelError(
        'ERR_INTERNAL',
        `data has ${this.data.byteLength} bytes where it had ${expected}`,
      )
    }
    const frames = Array.from({ length: this.frameCount }, (_, index) => this.frame(index))
    return { width: this.width, height: this.height, fps: this.fps, frames }
  }
}

/** One picture as rgb24, (height, width, 3). */
export interface ImageFrame {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array
}

export interface ExportToVideoOptions extends EncodeToFileOptions {
  /** Frames per second. Default: those of a `Video`, else 8. */
  fps?: number | undefined
  /** Needed if the frames are plain bytes. */
  width?: number | undefined
  /** Needed if the frames are plain bytes. */
  height?: number | undefined
}

/**
 * Saves frames as a video: see {@link Video.save}.
 *
 * @param frames a `Video`; or rgb24 frames of one size, as `{ width, height, data }` or as bytes with the size in the options
 * @returns the absolute path
 */
export async function exportToVideo(
  frames: Video | readonly (Uint8Array | ImageFrame)[],
  path: string | URL,
  options: ExportToVideoOptions = {},
): Promise<string> {
  checkOptions(options, exportOptions)
  const { fps = frames instanceof Video ? frames.fps : 8 } = options
  const images = imagesOf(frames, options)
  const { width = images[0]?.width, height = images[0]?.height } = options
  checkSize('width', width)
  checkSize('height', height)
  const bytes = images.map((image, index) => bytesOf(image, index, width, height))
  return encodeToFile({ width, height, fps, frames: bytes }, path, options)
}

/**
 * Throws what {@link Video.save} would throw, before there is a video: for a bad name, a file that is there already, a
 * folder that takes no files, a missing ffmpeg.
 */
export async function checkSave(
  path: string | URL,
  plan: EncodePlan = {},
  options: VideoSaveOptions = {},
): Promise<void> {
  checkOptions(options, saveOptions)
  await checkFile(path, plan, options)
}

type MaybeSized = Partial<Pick<ImageFrame, 'width' | 'height'>> & Pick<ImageFrame, 'data'>

function imagesOf(
  frames: Video | readonly (Uint8Array | ImageFrame)[],
  { width, height }: ExportToVideoOptions,
): MaybeSized[] {
  if (frames instanceof Video) {
    const size = { width: frames.width, height: frames.height }
    return Array.from({ length: frames.frameCount }, (_, index) => ({ ...size, data: frames.frame(index) }))
  }
  if (!Array.isArray(frames)) throw invalidArgument('frames', 'a Video or an array of frames', frames)
  if (frames.length === 0) throw invalidArgument('frames', 'at least one frame', frames)
  return frames.map((frame: Uint8Array | ImageFrame, index) => {
    if (isUint8Array(frame)) return { width, height, data: frame } as MaybeSized
    if (isUint8Array(frame?.data)) return frame
    throw invalidArgument(`frames[${index}]`, 'a Uint8Array or { width, height, data: Uint8Array }', frame)
  })
}

function bytesOf(image: MaybeSized, index: number, width: number, height: number): Uint8Array {
  if (image.width !== width || image.height !== height) {
    throw invalidArgument(`frames[${index}]`, `${width}×${height}`, `${image.width}×${image.height}`)
  }
  if (image.data.byteLength !== width * height * 3) {
    const expected = `rgb24 of ${width}×${height}: ${width * height * 3} bytes`
    throw invalidArgument(`frames[${index}]`, expected, `${image.data.byteLength} bytes`)
  }
  return image.data
}

function checkSize(parameter: string, size: number | undefined): asserts size is number {
  if (!(Number.isSafeInteger(size) && (size as number) > 0)) {
    throw invalidArgument(parameter, 'a positive integer', size)
  }
}

/** The type that each option must have, if it is there at all. */
const optionTypes = {
  crf: 'number',
  ffmpeg: 'string',
  signal: 'AbortSignal',
  overwrite: 'boolean',
  fps: 'number',
  width: 'number',
  height: 'number',
}
const encodeOptions = ['crf', 'ffmpeg', 'signal'] as const
const saveOptions = [...encodeOptions, 'overwrite'] as const
const exportOptions = [...saveOptions, 'fps', 'width', 'height'] as const

function checkOptions(options: object, names: readonly (keyof typeof optionTypes)[]): void {
  if (typeof options !== 'object' || options === null) throw invalidArgument('options', 'an object', options)
  for (const [name, value] of Object.entries(options)) {
    const known = names.find((each) => each === name)
    if (known === undefined) {
      throw new TorchreelError(
        'ERR_INVALID_ARGUMENT',
        `there is no option ${name}${suggestion(name, names)}`,
        {
          parameter: name,
          expected: names.join(', '),
          received: name,
        },
      )
    }
    const type = value instanceof AbortSignal ? 'AbortSignal' : typeof value
    if (value !== undefined && type !== optionTypes[known]) {
      throw invalidArgument(name, `of type ${optionTypes[known]}`, value)
    }
  }
}
