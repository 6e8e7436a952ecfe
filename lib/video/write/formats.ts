import { conflict, invalidArgument } from '../../errors.js'
import type { Ffmpeg } from '../ffmpeg.js'
import {
  type Encoder,
  gif,
  libaom,
  libsvtav1,
  libvpx,
  libvpxVp9,
  libwebp,
  libx264,
  type Range,
} from './encoders.js'
import type { EncodeSettings, PixelFormat, VideoCodec } from './options.js'

/**
 * A format that is one file or one stream of bytes. apng is an animated PNG, png a single picture, rgb24 the plain bytes
 * of the frames, (frames, height, width, 3).
 */
export type VideoFormat = 'mp4' | 'webm' | 'gif' | 'webp' | 'apng' | 'png' | 'rgb24'

interface Format {
  /** ffmpeg's encoders for it, the best first: the first that ffmpeg has is used. None: it is written without ffmpeg. */
  readonly encoders: readonly Encoder[]
  readonly file: readonly string[]
  readonly stream: readonly string[]
  readonly mostFps: number
}

const own: Format = { encoders: [], file: [], stream: [], mostFps: 240 }

const formats: Readonly<Record<VideoFormat, Format>> = {
  mp4: {
    encoders: [libx264],
    file: ['-movflags', '+faststart', '-f', 'mp4'],
    // A pipe cannot be sought to write the index afterwards: one per fragment instead. Without an edit list, frames out
    // of order would delay the first by two: no B-frames.
    stream: ['-bf', '0', '-movflags', 'frag_keyframe+empty_moov+default_base_moof', '-f', 'mp4'],
    mostFps: 240,
  },
  webm: {
    encoders: [libvpxVp9, libvpx, libaom, libsvtav1],
    file: ['-f', 'webm'],
    stream: ['-f', 'webm'],
    mostFps: 240,
  },
  gif: {
    encoders: [gif],
    file: ['-loop', '0', '-f', 'gif'],
    stream: ['-loop', '0', '-f', 'gif'],
    // A GIF counts in hundredths of a second, and browsers slow down what is shown for less than two.
    mostFps: 50,
  },
  webp: {
    encoders: [libwebp],
    file: ['-loop', '0', '-f', 'webp'],
    stream: ['-loop', '0', '-f', 'webp'],
    // It counts in milliseconds, and browsers slow down what is shown for less than eleven.
    mostFps: 90,
  },
  apng: { ...own, mostFps: 90 },
  png: own,
  rgb24: own,
}

export function checkFormat(format: string): asserts format is VideoFormat {
  if (!Object.hasOwn(formats, format)) {
    throw invalidArgument('format', `one of ${Object.keys(formats).join(', ')}`, format)
  }
}

/** Whether a format is made by ffmpeg. */
export function needsFfmpeg(format: VideoFormat): boolean {
  return formats[format].encoders.length > 0
}

/**
 * Checks frame rate and settings against what the format can do.
 *
 * @returns the encoders that can do all of it, the best first: ffmpeg must have one of them
 */
export function checkSettings(
  format: VideoFormat,
  fps: number | undefined,
  settings: EncodeSettings,
): readonly Encoder[] {
  const { encoders, mostFps } = formats[format]
  if (fps !== undefined && !(typeof fps === 'number' && fps >= 0.1 && fps <= mostFps)) {
    throw invalidArgument('fps', `a number from 0.1 to ${mostFps} for ${format}`, fps)
  }
  const byCodec = withCodec(format, encoders, settings.codec)
  checkRange(format, 'crf', byCodec[0]?.crf, settings.crf)
  checkRange(format, 'quality', byCodec[0]?.quality, settings.quality)
  checkBitrate(format, byCodec[0], settings)
  const byPixels = withPixelFormat(format, byCodec, settings.pixelFormat)
  return withSettings(format, byPixels, settings.ffmpegArguments ?? [])
}

function withCodec(
  format: VideoFormat,
  encoders: readonly Encoder[],
  codec: VideoCodec | undefined,
): readonly Encoder[] {
  const found = encoders.filter((encoder) =>
    codec === undefined ? !encoder.onRequest : encoder.codec === codec,
  )
  if (codec === undefined || found.length > 0) return found
  throw unknownWord(
    'codec',
    format,
    encoders.map((encoder) => encoder.codec),
    codec,
  )
}

function withPixelFormat(
  format: VideoFormat,
  encoders: readonly Encoder[],
  pixelFormat: PixelFormat | undefined,
): readonly Encoder[] {
  if (pixelFormat === undefined) return encoders
  const found = encoders.filter(({ pixelFormats }) => pixelFormats.includes(pixelFormat))
  if (found.length > 0) return found
  const known = encoders.flatMap(({ pixelFormats }) => pixelFormats)
  throw unknownWord('pixelFormat', format, known, pixelFormat)
}

function withSettings(
  format: VideoFormat,
  encoders: readonly Encoder[],
  given: readonly string[],
): readonly Encoder[] {
  const names = given.filter((_, index) => index % 2 === 0)
  const values = given.filter((_, index) => index % 2 === 1)
  const known = [...new Set(encoders.flatMap(({ settings }) => settings))].map((name) => `-${name}`)
  for (const name of names) {
    if (!known.includes(name)) throw unknownWord('ffmpegArguments', format, known, name)
  }
  if (names.length !== values.length) {
    throw invalidArgument('ffmpegArguments', 'pairs of a name and a value', given.at(-1))
  }
  for (const value of values) {
    if (typeof value !== 'string' || value === '' || value.includes('\0')) {
      throw invalidArgument('ffmpegArguments', 'pairs of a name and a value', value)
    }
  }
  const found = encoders.filter(({ settings }) => names.every((name) => settings.includes(name.slice(1))))
  if (found.length > 0 || encoders.length === 0) return found
  throw invalidArgument('ffmpegArguments', 'settings of one encoder', names.join(' '))
}

function checkRange(
  format: VideoFormat,
  parameter: 'crf' | 'quality',
  range: Range | undefined,
  value: number | undefined,
): void {
  if (value === undefined) return
  if (!range) throw conflict(parameter, format, value)
  if (!(typeof value === 'number' && value >= range.least && value <= range.most)) {
    throw invalidArgument(parameter, `a number from ${range.least} to ${range.most} for ${format}`, value)
  }
}

function checkBitrate(format: VideoFormat, encoder: Encoder | undefined, settings: EncodeSettings): void {
  const { bitrate, crf } = settings
  if (bitrate === undefined) return
  if (!encoder?.bitrate) throw conflict('bitrate', format, bitrate)
  if (crf !== undefined) throw conflict('bitrate', 'crf', bitrate)
  if (!(Number.isSafeInteger(bitrate) && bitrate >= 1000 && bitrate <= 1e9)) {
    throw invalidArgument('bitrate', 'an integer from 1000 to 1000000000 bits per second', bitrate)
  }
}

/** The error for a word that is none of those that a format has. */
function unknownWord(
  parameter: string,
  format: VideoFormat,
  known: readonly (string | undefined)[],
  received: unknown,
) {
  const names = [...new Set(known.filter((name) => name !== undefined))]
  if (names.length === 0) return conflict(parameter, format, received)
  return invalidArgument(parameter, `one of ${names.join(', ')} for ${format}`, received)
}

/** What ffmpeg is told of the frames and the file. */
export interface FfmpegJob {
  readonly width: number
  readonly height: number
  readonly fps: number
  readonly format: VideoFormat
  readonly output: 'file' | 'stream'
  readonly settings: EncodeSettings
  readonly comment: string | undefined
}

/**
 * ffmpeg's parameters for rgb24 frames on stdin: all but the name of the output.
 *
 * @param encoders of {@link checkSettings}; `ffmpeg` has one of them
 */
export function ffmpegParameters(ffmpeg: Ffmpeg, encoders: readonly Encoder[], job: FfmpegJob): string[] {
  const encoder = encoders.find(({ name }) => ffmpeg.encoders.has(name)) as Encoder
  const { width, height, fps, settings, comment } = job
  const choice = {
    width,
    height,
    pixelFormat: settings.pixelFormat ?? encoder.pixelFormats[0] ?? 'yuv420p',
    crf: settings.crf ?? encoder.crf?.default ?? 0,
    bitrate: settings.bitrate,
    quality: settings.quality ?? encoder.quality?.default ?? 0,
  }
  return [
    ...['-v', 'error', '-nostdin', '-y'],
    ...['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-video_size', `${width}x${height}`, '-framerate', `${fps}`],
    ...['-i', 'pipe:0', '-vf', encoder.filters(choice)],
    ...['-c:v', encoder.name, ...encoder.parameters(choice), ...(settings.ffmpegArguments ?? [])],
    // mp4 and webm keep it; the muxers of the others pass over it.
    ...(comment === undefined ? [] : ['-metadata', `comment=${comment}`]),
    ...formats[job.format][job.output],
  ]
}
