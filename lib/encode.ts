import { lstat, writeFile } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve, sep } from 'node:path'
import type { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { invalidArgument, TorchreelError } from './errors.js'
import { captureFfmpeg, type Ffmpeg, findFfmpeg, runFfmpeg } from './ffmpeg.js'
import { cannotWrite, OutputFiles } from './output_file.js'
import { encodePng } from './png.js'
import {
  checkFormat,
  checkRate,
  encoderParameters,
  encodersOf,
  isVideoFormat,
  type VideoFormat,
} from './video_format.js'

/** What goes into an encoder: frames of rgb24, each (height, width, 3). They may still be in the making. */
export interface FrameSource {
  readonly width: number
  readonly height: number
  /** Frames per second. */
  readonly fps: number
  readonly frames: readonly Uint8Array[] | AsyncIterable<Uint8Array>
}

export interface EncodeOptions {
  /**
   * Constant rate factor: lower is better and larger. mp4 (H.264): 1 to 51, default 18. webm (VP9): 0 to 63, default
   * 24. The other formats have none.
   */
  crf?: number | undefined
  /** Path of the ffmpeg to use, or its name on `PATH`. Default: see {@link findFfmpeg}. */
  ffmpeg?: string | undefined
  /** Ends the encoding: ffmpeg is killed, nothing stays, and the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
}

export interface EncodeToFileOptions extends EncodeOptions {
  /** Replace what is there. Default false: `ERR_OUTPUT_EXISTS`. */
  overwrite?: boolean | undefined
}

/** Where the frames go: one file, or one PNG per frame. */
type Destination = { readonly format: VideoFormat; readonly path: string } | PngSequence

interface PngSequence {
  readonly format: 'png'
  readonly path: string
  /** Set if the name ends in a separator: the folder is made. */
  readonly folder?: string
  /** The file of a frame, counted from 1. Undefined if the name has no number and there is more than one. */
  readonly frame: (number: number) => string | undefined
}

/** What is known before there are frames. */
export interface EncodePlan {
  fps?: number | undefined
  frameCount?: number | undefined
}

const knownNames =
  'a file name that ends in .mp4, .webm or .gif, or in .png with %d or %04d for the number of the frame, or a folder name that ends in /'

/**
 * Encodes frames to a file, or to a sequence of PNG files, by the name: see {@link Video.save}.
 *
 * @returns the absolute path; for a sequence with its pattern
 */
export async function encodeToFile(
  source: FrameSource,
  path: string | URL,
  options: EncodeToFileOptions = {},
): Promise<string> {
  const destination = parseDestination(path)
  checkPlan({ fps: source.fps, frameCount: checkFrames(source) }, destination, options.crf)
  options.signal?.throwIfAborted()

  await using output = new OutputFiles(options.overwrite ?? false)
  if (destination.format === 'png') {
    await writePngs(source, destination, output, options)
  } else {
    const temporary = await output.add(destination.path)
    const ffmpeg = await findFfmpeg(options.ffmpeg, encodersOf(destination.format))
    const frames = new CheckedFrames(source)
    try {
      await runFfmpeg(
        ffmpeg.path,
        // `file:` keeps ffmpeg from reading an option, a protocol or a host into the name.
        [...encoderParameters(ffmpeg, source, destination.format, 'file', options.crf), `file:${temporary}`],
        { stdin: frames, signal: options.signal },
      )
    } catch (error) {
      throw isDiskFailure(error) ? cannotWrite(destination.path, error) : error
    }
    await verify(ffmpeg, temporary, destination.path, frames.count, options.signal)
  }
  options.signal?.throwIfAborted()
  await output.commit()
  return destination.path
}

/** Encodes frames to a stream. The stream is not ended. */
export async function encodeToStream(
  source: FrameSource,
  format: VideoFormat,
  stdout: Writable,
  options: EncodeOptions = {},
): Promise<void> {
  const ffmpeg = await findFfmpeg(options.ffmpeg, encodersOf(format))
  await runFfmpeg(
    ffmpeg.path,
    [...encoderParameters(ffmpeg, source, format, 'stream', options.crf), 'pipe:1'],
    {
      stdin: new CheckedFrames(source),
      stdout,
      signal: options.signal,
    },
  )
}

/** Throws what {@link encodeToStream} would throw for its arguments. */
export function checkStream(source: FrameSource, format: VideoFormat, { crf }: EncodeOptions = {}): void {
  checkFormat(format)
  checkRate(format, source.fps, crf)
  checkFrames(source)
}

/**
 * Throws what {@link encodeToFile} would throw, without any frame: for a bad name, a file that is there already, a folder
 * that takes no files, a missing ffmpeg. To be called before hours of work.
 */
export async function checkFile(
  path: string | URL,
  plan: EncodePlan,
  { crf, ffmpeg, overwrite = false }: EncodeToFileOptions = {},
): Promise<void> {
  const destination = parseDestination(path)
  checkPlan(plan, destination, crf)
  await using output = new OutputFiles(overwrite)
  if (destination.format === 'png') {
    if (destination.folder) await output.createFolder(destination.folder)
    await output.add(destination.frame(1) as string)
  } else {
    await output.add(destination.path)
    await findFfmpeg(ffmpeg, encodersOf(destination.format))
  }
}

function parseDestination(given: string | URL): Destination {
  const name = given instanceof URL && given.protocol === 'file:' ? fileURLToPath(given) : given
  if (typeof name !== 'string' || name === '' || name.includes('\0')) {
    throw invalidArgument('path', knownNames, given)
  }
  const path = resolve(name)
  if (name.endsWith('/') || name.endsWith(sep)) {
    return { ...pngSequence(join(path, 'frame_%04d.png')), folder: path }
  }
  const extension = extname(path).slice(1).toLowerCase()
  if (extension === 'png') return pngSequence(path)
  if (!isVideoFormat(extension)) throw invalidArgument('path', knownNames, given)
  return { format: extension, path }
}

function pngSequence(path: string): PngSequence {
  const name = basename(path)
  const [number, second] = Array.from(name.matchAll(/%(?:0(\d))?d/g))
  if (second) throw invalidArgument('path', 'a file name with one %d', path)
  return {
    format: 'png',
    path,
    frame(index) {
      if (!number) return index === 1 ? path : undefined
      const digits = `${index}`.padStart(Number(number[1] ?? 1), '0')
      const end = number.index + number[0].length
      return join(dirname(path), name.slice(0, number.index) + digits + name.slice(end))
    },
  }
}

function checkPlan({ fps, frameCount }: EncodePlan, destination: Destination, crf: number | undefined): void {
  if (frameCount === 0) throw invalidArgument('frames', 'at least one frame', 0)
  checkRate(destination.format, fps, crf)
  if (destination.format === 'png' && frameCount !== undefined && frameCount > 1) frameFile(destination, 2)
}

function checkFrames(source: FrameSource): number | undefined {
  if (!Array.isArray(source.frames)) return undefined
  const frames: readonly Uint8Array[] = source.frames
  frames.forEach((frame, index) => {
    checkFrame(frame, index, source)
  })
  return frames.length
}

function checkFrame(frame: Uint8Array, index: number, { width, height }: FrameSource): void {
  // ffmpeg would shift the frames that follow, or drop the last one, and say nothing.
  if (frame.byteLength !== width * height * 3) {
    throw new TorchreelError(
      'ERR_INTERNAL',
      `frame ${index} has ${frame.byteLength} bytes; ${width}×${height} rgb24 has ${width * height * 3}`,
    )
  }
}

/** The frames of a source, each checked before it is handed on, and counted. */
class CheckedFrames implements AsyncIterable<Uint8Array> {
  count = 0
  readonly #source: FrameSource

  constructor(source: FrameSource) {
    this.#source = source
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const frame of this.#source.frames) {
      checkFrame(frame, this.count, this.#source)
      this.count++
      yield frame
    }
    if (this.count === 0) throw invalidArgument('frames', 'at least one frame', 0)
  }
}

/**
 * Decodes the file and counts. ffmpeg says 0 when the disk was full while it moved the index to the front, and when it
 * dropped a frame.
 */
async function verify(
  ffmpeg: Ffmpeg,
  temporary: string,
  path: string,
  expected: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let list: string
  try {
    const input = ['-v', 'error', '-xerror', '-nostdin', '-i', `file:${temporary}`]
    list = await captureFfmpeg(ffmpeg.path, [...input, '-map', '0:v:0', '-f', 'framecrc', 'pipe:1'], signal)
  } catch (error) {
    signal?.throwIfAborted()
    throw cannotWrite(path, new Error('what ffmpeg wrote is not whole', { cause: error }))
  }
  // One line per frame; comments start with #.
  const count = list.match(/^[^#\n]+$/gm)?.length ?? 0
  if (count !== expected) {
    throw cannotWrite(path, new Error(`it holds ${count} frames where ${expected} were sent`))
  }
}

/** Whether ffmpeg failed for want of room or a working disk. */
function isDiskFailure(error: unknown): boolean {
  if (!(error instanceof TorchreelError) || error.code !== 'ERR_ENCODER_FAILED') return false
  const reasons =
    /No space left on device|File too large|quota exceeded|Read-only file system|Input\/output error/i
  return error.signal === 'SIGXFSZ' || reasons.test(error.stderrTail ?? '')
}

async function writePngs(
  source: FrameSource,
  destination: PngSequence,
  output: OutputFiles,
  { signal }: EncodeToFileOptions,
): Promise<void> {
  if (destination.folder) await output.createFolder(destination.folder)
  const frames = new CheckedFrames(source)
  for await (const frame of frames) {
    signal?.throwIfAborted()
    const path = frameFile(destination, frames.count)
    const temporary = await output.add(path)
    const png = await encodePng(frame, source.width, source.height)
    await writeFile(temporary, png).catch((error: unknown) => {
      throw cannotWrite(path, error)
    })
  }
  // A frame of a longer sequence would follow on these.
  const next = destination.frame(frames.count + 1)
  if (next !== undefined && (await lstat(next).catch(() => undefined))) {
    throw new TorchreelError('ERR_OUTPUT_EXISTS', `${next} of a longer sequence exists; remove it first`, {
      path: next,
    })
  }
}

function frameFile(destination: PngSequence, number: number): string {
  const path = destination.frame(number)
  if (path === undefined) {
    throw invalidArgument('path', 'a name with %d or %04d for the number of the frame', destination.path)
  }
  return path
}
