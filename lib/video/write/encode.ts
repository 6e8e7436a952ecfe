import { createReadStream } from 'node:fs'
import { lstat, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { invalidArgument, TorchreelError } from '../../errors.js'
import { cannotWrite, OutputFiles } from '../../files/output_files.js'
import { commentOf, factsAsJson } from '../facts.js'
import { captureFfmpeg, type Ffmpeg, runFfmpeg } from '../ffmpeg.js'
import { type Destination, frameFile, type PngSequence, parseDestination } from './destination.js'
import { chooseEncoder } from './encoder_choice.js'
import type { Encoder } from './encoders.js'
import {
  checkFormat,
  checkSettings,
  ffmpegParameters,
  needsFfmpeg,
  needsFile,
  type VideoFormat,
} from './formats.js'
import { CheckedFrames, checkFrames, type FrameSource } from './frame_source.js'
import { addGifComment, GifComment } from './gif_comment.js'
import type { EncodeOptions, EncodeSettings, EncodeToFileOptions } from './options.js'
import { encodeApng, encodePng } from './png.js'
import { webpDuration } from './webp.js'

/** The facts of a video that are known before its frames. */
export interface EncodePlan {
  fps?: number | undefined
  frameCount?: number | undefined
}

/**
 * Encodes frames to a file or a sequence of PNG files, depending on the name: see {@link Video.save}.
 *
 * @param warnings gets a line if a fallback encoder was used
 * @returns the absolute path; for a sequence, with its pattern
 */
export async function encodeToFile(
  source: FrameSource,
  path: string | URL,
  options: EncodeToFileOptions = {},
  warnings: string[] = [],
): Promise<string> {
  const destination = parseDestination(path)
  const encoders = checkPlan({ fps: source.fps, frameCount: checkFrames(source) }, destination, options)
  options.signal?.throwIfAborted()

  const output = new OutputFiles(options.overwrite ?? false)
  try {
    const sidecar = await prepare(destination, output, options)
    const frames = new CheckedFrames(source)
    if (destination.format === 'png') {
      await writePngs(frames, destination, output, options)
    } else {
      const temporary = await output.add(destination.path)
      if (needsFfmpeg(destination.format)) {
        const warning = await writeWithFfmpeg(frames, encoders, { ...destination, temporary }, options)
        if (warning !== undefined && !warnings.includes(warning)) warnings.push(warning)
      } else {
        const chunks = encodeChunks(frames, destination.format, options)
        await writeChunks(chunks, temporary, destination.path, options.signal)
      }
    }
    if (sidecar !== undefined) {
      await writeFile(sidecar, sidecarText(source, frames.count)).catch((error: unknown) => {
        throw cannotWrite(destination.sidecar, error)
      })
    }
    options.signal?.throwIfAborted()
    await output.commit()
    return destination.path
  } finally {
    await output.close()
  }
}

/** Encodes frames to a stream. The stream is not ended. */
export async function encodeToStream(
  source: FrameSource,
  format: VideoFormat,
  stdout: Writable,
  options: EncodeOptions = {},
): Promise<void> {
  const encoders = checkStream(source, format, options)
  const frames = new CheckedFrames(source)
  const { signal } = options
  if (!needsFfmpeg(format)) {
    const chunks = encodeChunks(frames, format, options)
    await pipeline(chunks, stdout, { end: false, ...(signal && { signal }) }).catch((error: unknown) => {
      signal?.throwIfAborted()
      throw error
    })
    return
  }
  const { ffmpeg, encoder } = await chooseEncoder(encoders, options.ffmpeg, signal)
  if (needsFile(format, encoder)) {
    await streamFile(source, format, stdout, options)
    return
  }
  const comment = commentFor(source, options)
  const job = { ...sizeAndRate(source), format, output: 'stream', settings: options, comment } as const
  const parameters = [...ffmpegParameters(encoder, job), 'pipe:1']
  if (format === 'gif' && comment !== undefined) {
    const commented = new GifComment(comment)
    const passed = pipeline(commented, stdout, { end: false, ...(signal && { signal }) })
    // A failure is rethrown by the await below. If ffmpeg fails too, its error is thrown first.
    passed.catch(() => {})
    await runFfmpeg(ffmpeg.path, parameters, { stdin: frames, stdout: commented, signal })
    commented.end()
    await passed
  } else {
    await runFfmpeg(ffmpeg.path, parameters, { stdin: frames, stdout, signal })
  }
}

/** Encodes to a file in a temporary folder, which is then streamed and removed. */
async function streamFile(
  source: FrameSource,
  format: VideoFormat,
  stdout: Writable,
  options: EncodeOptions,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'torchreel-')).catch((error: unknown) => {
    throw cannotWrite(tmpdir(), error)
  })
  try {
    const { signal } = options
    const file = await encodeToFile(source, join(folder, `video.${format}`), options)
    await pipeline(createReadStream(file), stdout, { end: false, ...(signal && { signal }) })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Throws the errors of {@link encodeToStream} for its arguments. */
export function checkStream(
  source: FrameSource,
  format: VideoFormat,
  settings: EncodeSettings = {},
): readonly Encoder[] {
  checkFormat(format)
  const encoders = checkSettings(format, source.fps, settings)
  const frameCount = checkFrames(source)
  if (format === 'png' && frameCount !== 1) {
    throw invalidArgument('format', 'apng, or png for a video of one frame', format)
  }
  return encoders
}

/**
 * Throws the errors of {@link encodeToFile} without any frame: for a bad name, an existing file, a folder that is missing,
 * read-only or full, a missing ffmpeg. It tries to write a file. Call it before hours of work.
 *
 * @returns a warning if a fallback encoder will be used
 */
export async function checkFile(
  path: string | URL,
  plan: EncodePlan,
  options: EncodeToFileOptions = {},
): Promise<readonly string[]> {
  const destination = parseDestination(path)
  const encoders = checkPlan(plan, destination, options)
  const output = new OutputFiles(options.overwrite ?? false)
  try {
    await prepare(destination, output, options)
    await output.add(destination.format === 'png' ? frameFile(destination, 1) : destination.path)
    await output.rehearse()
  } finally {
    await output.close()
  }
  if (encoders.length === 0) return []
  const { warning } = await chooseEncoder(encoders, options.ffmpeg, options.signal)
  return warning === undefined ? [] : [warning]
}

/** Creates the folder if the name is one, and adds the sidecar if it is wanted. Returns the sidecar's temporary file. */
async function prepare(
  destination: Destination,
  output: OutputFiles,
  { sidecar = false }: EncodeToFileOptions,
): Promise<string | undefined> {
  if (destination.format === 'png' && destination.folder) await output.createFolder(destination.folder)
  return sidecar ? output.add(destination.sidecar) : undefined
}

/** Checks what is known of the frames against what the destination's format can hold. */
export function checkPlan(
  { fps, frameCount }: EncodePlan,
  destination: Destination,
  settings: EncodeSettings,
): readonly Encoder[] {
  if (frameCount === 0) throw invalidArgument('frames', 'at least one frame', 0)
  const encoders = checkSettings(destination.format, fps, settings)
  if (destination.format === 'png' && frameCount !== undefined && frameCount > 1) frameFile(destination, 2)
  return encoders
}

function sizeAndRate({ width, height, fps }: FrameSource): Pick<FrameSource, 'width' | 'height' | 'fps'> {
  return { width, height, fps }
}

/** Linux limits an argument to 128 KiB, including its name and the terminating zero. */
const longestComment = 131_000

function commentFor({ facts = {} }: FrameSource, { metadata = true }: EncodeOptions): string | undefined {
  const comment = metadata ? commentOf(facts) : undefined
  const length = Buffer.byteLength(comment ?? '')
  if (length <= longestComment) return comment
  throw new TorchreelError(
    'ERR_LIMIT_EXCEEDED',
    `the file's comment (prompt and settings) has ${length} bytes, more than ${longestComment}; set metadata: false`,
    { parameter: 'metadata', expected: `at most ${longestComment} bytes`, received: length },
  )
}

function sidecarText(source: FrameSource, frameCount: number): string {
  const { width, height, fps, facts = {} } = source
  return `${JSON.stringify({ width, height, frameCount, fps, ...factsAsJson(facts) }, null, 2)}\n`
}

interface FfmpegTarget {
  readonly format: VideoFormat
  readonly path: string
  readonly temporary: string
}

async function writeWithFfmpeg(
  frames: CheckedFrames,
  encoders: readonly Encoder[],
  { format, path, temporary }: FfmpegTarget,
  options: EncodeToFileOptions,
): Promise<string | undefined> {
  const { source } = frames
  const { ffmpeg, encoder, warning } = await chooseEncoder(encoders, options.ffmpeg, options.signal)
  const comment = commentFor(source, options)
  const job = { ...sizeAndRate(source), format, output: 'file', settings: options, comment } as const
  try {
    await runFfmpeg(
      ffmpeg.path,
      // `file:` keeps ffmpeg from reading an option, a protocol or a host into the name.
      [...ffmpegParameters(encoder, job), `file:${temporary}`],
      { stdin: frames, signal: options.signal },
    )
  } catch (error) {
    throw isDiskFailure(error) ? cannotWrite(path, error) : error
  }
  if (format === 'gif' && comment !== undefined) {
    await addGifComment(temporary, comment).catch((error: unknown) => {
      throw cannotWrite(path, error)
    })
  }
  const shown = await (format === 'webp'
    ? webpFrames(temporary, source.fps, frames.count)
    : decodedFrames(ffmpeg, temporary, options.signal)
  ).catch((error: unknown) => {
    options.signal?.throwIfAborted()
    throw cannotWrite(path, new Error('the file that ffmpeg wrote is incomplete', { cause: error }))
  })
  if (shown !== frames.count) {
    throw cannotWrite(path, new Error(`it has ${shown} frames instead of ${frames.count}`))
  }
  return warning
}

/**
 * Decodes the file and counts its frames. ffmpeg's exit code is 0 even if the disk was full while it moved the index to the
 * front, or if it dropped a frame.
 */
async function decodedFrames(
  ffmpeg: Ffmpeg,
  temporary: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  const input = ['-v', 'error', '-xerror', '-nostdin', '-i', `file:${temporary}`]
  const list = await captureFfmpeg(
    ffmpeg.path,
    [...input, '-map', '0:v:0', '-f', 'framecrc', 'pipe:1'],
    signal,
  )
  // One line per frame; comments start with #.
  return list.match(/^[^#\n]+$/gm)?.length ?? 0
}

/** The frame count of a webp, from its duration. A still image does not say how many identical frames it had. */
async function webpFrames(temporary: string, fps: number, expected: number): Promise<number> {
  const duration = await webpDuration(temporary)
  return duration === undefined ? expected : Math.round((duration * fps) / 1000)
}

/** Whether ffmpeg failed because the disk is full or broken. */
function isDiskFailure(error: unknown): boolean {
  if (!(error instanceof TorchreelError) || error.code !== 'ERR_ENCODER_FAILED') return false
  const reasons =
    /No space left on device|File too large|quota exceeded|Read-only file system|Input\/output error/i
  return error.signal === 'SIGXFSZ' || reasons.test(error.stderrTail ?? '')
}

/** Encodes a format that does not need ffmpeg. */
async function* encodeChunks(
  frames: CheckedFrames,
  format: VideoFormat,
  options: EncodeOptions,
): AsyncGenerator<Uint8Array> {
  if (format === 'rgb24') {
    yield* frames
    return
  }
  const comment = commentFor(frames.source, options)
  if (format === 'png') {
    for await (const frame of frames) yield encodePng(frame, frames.source, comment)
    return
  }
  // The header contains the number of frames, so all frames must be there first.
  const all: Uint8Array[] = []
  for await (const frame of frames) all.push(frame)
  yield* encodeApng(all, all.length, frames.source, comment)
}

async function writeChunks(
  chunks: AsyncIterable<Uint8Array>,
  temporary: string,
  path: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const fail = (error: unknown) => {
    throw cannotWrite(path, error)
  }
  const file = await open(temporary, 'r+').catch(fail)
  try {
    for await (const chunk of chunks) {
      signal?.throwIfAborted()
      await file.writeFile(chunk).catch(fail)
    }
  } finally {
    await file.close()
  }
}

async function writePngs(
  frames: CheckedFrames,
  destination: PngSequence,
  output: OutputFiles,
  options: EncodeToFileOptions,
): Promise<void> {
  const comment = commentFor(frames.source, options)
  for await (const frame of frames) {
    options.signal?.throwIfAborted()
    const path = frameFile(destination, frames.count)
    const temporary = await output.add(path)
    const png = await encodePng(frame, frames.source, comment)
    await writeFile(temporary, png).catch((error: unknown) => {
      throw cannotWrite(path, error)
    })
  }
  // An existing next file would look like part of this sequence.
  const next = destination.frame(frames.count + 1)
  if (next !== undefined && (await lstat(next).catch(() => undefined))) {
    throw new TorchreelError('ERR_OUTPUT_EXISTS', `${next} exists from a longer sequence; remove it first`, {
      path: next,
    })
  }
}
