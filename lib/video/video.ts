import { PassThrough, type Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { isUint8Array } from 'node:util/types'
import { checkOptions, refuseUnknown } from '../checks/options.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import type { Tensor } from '../tensor.js'
import { tileFrames } from './contact_sheet.js'
import { factsAsJson, type VideoFacts, type VideoSettings } from './facts.js'
import { checkFile, checkStream, type EncodePlan, encodeToFile, encodeToStream } from './write/encode.js'
import type { VideoFormat } from './write/formats.js'
import type { FrameSource } from './write/frame_source.js'
import { type EncodeOptions, type EncodeToFileOptions, encodeOptions, saveOptions } from './write/options.js'

export type { VideoFacts, VideoFormat, VideoSettings }

/** How a video is encoded. */
export interface VideoEncodeOptions extends EncodeOptions {}

/** How a video is saved. */
export interface VideoSaveOptions extends EncodeToFileOptions {}

/** How frames are laid out on a contact sheet. */
export interface ContactSheetOptions {
  /** Frames in a row. */
  columns?: number | undefined
}

export interface VideoContents extends VideoFacts {
  readonly width: number
  readonly height: number
  /** Frames per second. */
  readonly fps: number
  /** rgb24, (frames, height, width, 3). Kept as it is, not copied. */
  readonly data: Uint8Array
  /** See {@link Video.file}. */
  readonly file?: string | undefined
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
  /** Where it was written while it was made, as {@link Video.save} gives it; undefined without the option `output`. */
  readonly file: string | undefined
  readonly prompt: string | undefined
  readonly negativePrompt: string | undefined
  readonly seed: number | undefined
  readonly steps: number | undefined
  readonly strength: number | undefined
  readonly guidanceScale: number | readonly number[] | undefined
  readonly scheduler: string | undefined
  readonly settings: VideoSettings | undefined
  readonly model: string | undefined
  readonly torchreel: string | undefined
  readonly libtorch: string | undefined
  readonly device: string | undefined
  readonly dtype: string | undefined
  readonly compiledDenoiser: string | undefined
  readonly timings: Readonly<Record<string, number>> | undefined
  readonly latents: Tensor | undefined
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
    this.file = contents.file
    this.prompt = contents.prompt
    this.negativePrompt = contents.negativePrompt
    this.seed = contents.seed
    this.steps = contents.steps
    this.strength = contents.strength
    this.guidanceScale = contents.guidanceScale
    this.scheduler = contents.scheduler
    this.settings = contents.settings
    this.model = contents.model
    this.torchreel = contents.torchreel
    this.libtorch = contents.libtorch
    this.device = contents.device
    this.dtype = contents.dtype
    this.compiledDenoiser = contents.compiledDenoiser
    this.timings = contents.timings
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
   * | name | format | comment |
   * |---|---|---|
   * | `.mp4` | H.264 High, 4:2:0, index at the front: plays in every browser | tag `comment` |
   * | `.webm` | VP9, or VP8 where ffmpeg has only that; AV1 with `codec: 'av1'` | tag `COMMENT` |
   * | `.gif` | 256 colours chosen for each frame; up to 50 frames per second | comment extension, in ASCII |
   * | `.webp` | animated, repeats for ever; up to 90 frames per second | none |
   * | `.apng` | animated PNG, lossless, repeats for ever; up to 90 frames per second | iTXt `Comment` |
   * | `.rgb` | the plain bytes of `data`, without a header | none |
   * | `.png` with `%d` or `%04d` | one lossless PNG per frame, counted from 1 | iTXt `Comment` in each |
   * | `.png` | the same, for a video of one frame, such as a contact sheet | iTXt `Comment` |
   * | a folder, ending in `/` | the same, as `frame_0001.png` … ; the folder is made | iTXt `Comment` in each |
   *
   * The comment is one line of JSON: see `metadata` in {@link VideoEncodeOptions}. `.apng`, `.png` and `.rgb` need no ffmpeg.
   *
   * The file appears whole or not at all: it is written beside the target, decoded once to count its frames (of a webp,
   * which older ffmpegs cannot decode, the chunks are read), flushed and renamed. mp4 and webm have even sides, unless
   * their pixel format lets them be odd: an odd width or height grows by a copy of the last column or row.
   *
   * @returns the absolute path
   * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_OUTPUT_EXISTS`, `ERR_OUTPUT_WRITE` (a folder that is missing or
   *   takes no files, a full disk), `ERR_ENCODER_NOT_FOUND` (no ffmpeg, or none with an encoder for it),
   *   `ERR_ENCODER_FAILED`
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

  /**
   * All frames as one picture: a video of one frame with the facts of this one, to be saved as `.png` or taken as
   * `toBuffer('png')`. They run from left to right and from top to bottom.
   *
   * @param options `columns`: frames in a row, 1 to `frameCount`; by default as many as make a square
   */
  contactSheet(options: ContactSheetOptions = {}): Video {
    refuseUnknown(options, ['columns'])
    const { columns = Math.ceil(Math.sqrt(this.frameCount)) } = options
    if (!(Number.isSafeInteger(columns) && columns >= 1 && columns <= this.frameCount)) {
      throw invalidArgument('columns', `an integer from 1 to ${this.frameCount}`, columns)
    }
    const sheet = tileFrames(this.#source().frames as Uint8Array[], this, columns)
    return new Video({ ...this, ...sheet, latents: undefined, file: undefined })
  }

  /** What `JSON.stringify` writes: the size and all that is known, without pixels and latents. */
  toJSON(): object {
    const { width, height, frameCount, fps } = this
    return { width, height, frameCount, fps, ...factsAsJson(this) }
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
    return { width: this.width, height: this.height, fps: this.fps, frames, facts: this }
  }
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

/** Refuses what is not a whole number of pixels. */
export function checkSize(parameter: string, size: number | undefined): asserts size is number {
  if (!(Number.isSafeInteger(size) && (size as number) > 0)) {
    throw invalidArgument(parameter, 'a positive integer', size)
  }
}
