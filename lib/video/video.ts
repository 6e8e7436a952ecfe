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
  /** rgb24, (frames, height, width, 3). Not copied. */
  readonly data: Uint8Array
  /** See {@link Video.file}. */
  readonly file?: string | undefined
}

/** Frames in memory, and facts about how they were made. */
export class Video implements VideoFacts {
  readonly width: number
  readonly height: number
  readonly frameCount: number
  /** Frames per second. */
  readonly fps: number
  /** rgb24, (frameCount, height, width, 3). */
  readonly data: Uint8Array
  /** The path that the option `output` wrote to, as {@link Video.save} returns it. Undefined without `output`. */
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
  readonly threads: number | undefined
  readonly compiledDenoiser: string | undefined
  readonly timings: Readonly<Record<string, number>> | undefined
  readonly latents: Tensor | undefined
  readonly warnings: readonly string[]
  readonly #warnings: string[]

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
    this.threads = contents.threads
    this.compiledDenoiser = contents.compiledDenoiser
    this.timings = contents.timings
    this.latents = contents.latents
    this.#warnings = [...(contents.warnings ?? [])]
    this.warnings = this.#warnings
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
   * Saves the video. The name determines the format:
   *
   * | name | format | comment |
   * |---|---|---|
   * | `.mp4` | H.264 High, 4:2:0, index at the front: plays in every browser | tag `comment` |
   * | `.mov`, `.mkv` | H.264; an mkv takes `codec` 'vp9', 'vp8' and 'av1', too | tag `comment` |
   * | `.webm` | VP9, or VP8 if ffmpeg has no VP9 encoder; AV1 with `codec: 'av1'` | tag `COMMENT` |
   * | `.gif` | 256 colours chosen for each frame; up to 50 frames per second | comment extension, in ASCII |
   * | `.webp` | animated, loops; up to 90 frames per second | none |
   * | `.apng` | animated PNG, lossless, loops; up to 90 frames per second | iTXt `Comment` |
   * | `.rgb` | the plain bytes of `data`, without a header | none |
   * | `.png` with `%d` or `%04d` | one lossless PNG per frame, counted from 1 | iTXt `Comment` in each |
   * | `.png` | the same, for a video of one frame, such as a contact sheet | iTXt `Comment` |
   * | a folder, ending in `/` | the same, as `frame_0001.png` … ; creates the folder | iTXt `Comment` in each |
   *
   * If ffmpeg has no libx264, `save` uses another H.264 encoder of it and adds a line to `warnings`.
   *
   * The comment is one line of JSON: see `metadata` in {@link VideoEncodeOptions}. `.apng`, `.png` and `.rgb` do not need
   * ffmpeg.
   *
   * The file appears complete or not at all. It is written beside the target, decoded once to count its frames, flushed and
   * renamed. (Older ffmpegs cannot decode a webp; its chunks are read instead.) Unless the pixel format allows odd sides,
   * mp4 and webm have even ones: an odd width or height grows by a copy of the last column or row.
   *
   * @returns the absolute path
   * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_OUTPUT_EXISTS`, `ERR_OUTPUT_WRITE` (a missing or read-only folder, a
   *   full disk), `ERR_ENCODER_NOT_FOUND` (no ffmpeg, or none with an encoder for this format), `ERR_ENCODER_FAILED`
   */
  async save(path: string | URL, options: VideoSaveOptions = {}): Promise<string> {
    checkOptions(options, saveOptions)
    return encodeToFile(this.#source(), path, options, this.#warnings)
  }

  /** The encoded video as a buffer, with the bytes of {@link Video.stream}. */
  async toBuffer(format: VideoFormat, options: VideoEncodeOptions = {}): Promise<Buffer> {
    return buffer(this.stream(format, options))
  }

  /**
   * The encoded video as a stream of bytes. An mp4 is fragmented, because a stream cannot seek. Destroying the stream stops
   * the encoding. A failure becomes the stream's error. The stream ends only after the complete video.
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
   * All frames in one picture, from left to right and from top to bottom. Returns a video of one frame with the same facts.
   * Save it as `.png`, or call `toBuffer('png')`.
   *
   * @param options `columns`: frames per row, 1 to `frameCount`. Default: as many as make a square
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

  /** For `JSON.stringify`: the size and all facts, without pixels and latents. */
  toJSON(): object {
    const { width, height, frameCount, fps } = this
    return { width, height, frameCount, fps, ...factsAsJson(this) }
  }

  #source(): FrameSource {
    const expected = this.frameCount * this.height * this.width * 3
    if (this.data.byteLength !== expected) {
      // The constructor has checked the length: the buffer was transferred or resized since then.
      throw new TorchreelError(
        'ERR_INTERNAL',
        `data has ${this.data.byteLength} bytes now, and had ${expected} before`,
      )
    }
    const frames = Array.from({ length: this.frameCount }, (_, index) => this.frame(index))
    return { width: this.width, height: this.height, fps: this.fps, frames, facts: this }
  }
}

/**
 * Throws the errors of {@link Video.save} before there is a video: for a bad name, an existing file, a folder that is
 * missing or read-only, a missing ffmpeg.
 */
export async function checkSave(
  path: string | URL,
  plan: EncodePlan = {},
  options: VideoSaveOptions = {},
): Promise<void> {
  checkOptions(options, saveOptions)
  await checkFile(path, plan, options)
}

/** Checks that a width or height is a whole number of pixels. */
export function checkSize(parameter: string, size: number | undefined): asserts size is number {
  if (!(Number.isSafeInteger(size) && (size as number) > 0)) {
    throw invalidArgument(parameter, 'a positive integer', size)
  }
}
