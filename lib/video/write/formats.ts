import { conflict, invalidArgument, TorchreelError } from '../../errors.js'
import {
  type Encoder,
  gif,
  libaom,
  libopenh264,
  libsvtav1,
  libvpx,
  libvpxVp9,
  libwebp,
  libx264,
  nvenc,
  quickSync,
  type Range,
} from './encoders.js'
import type { EncodeSettings, PixelFormat, VideoCodec } from './options.js'

/**
 * A format of one file or one stream of bytes. apng: an animated PNG. png: a single picture. rgb24: the plain bytes of the
 * frames, (frames, height, width, 3).
 */
export type VideoFormat = 'mp4' | 'mov' | 'mkv' | 'webm' | 'gif' | 'webp' | 'apng' | 'png' | 'rgb24'

interface Format {
  /** ffmpeg's encoders, the best first; the first that ffmpeg has is used. Empty: the format does not need ffmpeg. */
  readonly encoders: readonly Encoder[]
  readonly file: readonly string[]
  readonly stream: readonly string[]
  /** The muxer seeks back for these codecs, so a stream is made from a temporary file. */
  readonly seeks?: readonly VideoCodec[]
  readonly mostFps: number
}

const own: Format = { encoders: [], file: [], stream: [], mostFps: 240 }

const h264 = [libx264, libopenh264, nvenc, quickSync]
const webm = [libvpxVp9, libvpx, libaom, libsvtav1]

/** MP4 and QuickTime differ in their header. */
function mp4Like(muxer: string): Format {
  return {
    encoders: h264,
    file: ['-movflags', '+faststart', '-f', muxer],
    // A pipe cannot seek back to write one index, so each fragment has its own. There is no edit list either: B-frames
    // would delay the first frame by two, so there are none.
    stream: ['-bf', '0', '-movflags', 'frag_keyframe+empty_moov+default_base_moof', '-f', muxer],
    mostFps: 240,
  }
}

/** WebM is Matroska with fewer codecs. */
function matroskaLike(muxer: string, encoders: readonly Encoder[]): Format {
  return { encoders, file: ['-f', muxer], stream: ['-f', muxer], seeks: ['av1'], mostFps: 240 }
}

const formats: Readonly<Record<VideoFormat, Format>> = {
  mp4: mp4Like('mp4'),
  mov: mp4Like('mov'),
  mkv: matroskaLike('matroska', [...h264, ...webm.map((encoder) => ({ ...encoder, onRequest: true }))]),
  webm: matroskaLike('webm', webm),
  gif: {
    encoders: [gif],
    file: ['-loop', '0', '-f', 'gif'],
    stream: ['-loop', '0', '-f', 'gif'],
    // A GIF counts in hundredths of a second. Browsers slow down frames shorter than two hundredths.
    mostFps: 50,
  },
  webp: {
    encoders: [libwebp],
    file: ['-loop', '0', '-f', 'webp'],
    stream: ['-loop', '0', '-f', 'webp'],
    // A webp counts in milliseconds. Browsers slow down frames shorter than 11 ms.
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

/** Whether ffmpeg encodes this format. */
export function needsFfmpeg(format: VideoFormat): boolean {
  return formats[format].encoders.length > 0
}

/** Whether the format's muxer needs a file for the codec of this encoder. */
export function needsFile(format: VideoFormat, { codec }: Encoder): boolean {
  return codec !== undefined && (formats[format].seeks?.includes(codec) ?? false)
}

/**
 * Checks that the format supports the frame rate and the settings.
 *
 * @returns the encoders that support all of them, the best first. ffmpeg must have one of them
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
  const byRate = settings.crf === undefined ? byCodec : byCodec.filter(({ crf }) => crf !== undefined)
  const byPixels = withPixelFormat(format, byRate, settings.pixelFormat)
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
  throw unknownValue(
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
  throw unknownValue('pixelFormat', format, known, pixelFormat)
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
    if (!known.includes(name)) throw unknownValue('ffmpegArguments', format, known, name)
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
  if (!range) throw unsupported(parameter, format, value)
  if (!(typeof value === 'number' && value >= range.least && value <= range.most)) {
    throw invalidArgument(parameter, `a number from ${range.least} to ${range.most} for ${format}`, value)
  }
}

function checkBitrate(format: VideoFormat, encoder: Encoder | undefined, settings: EncodeSettings): void {
  const { bitrate, crf } = settings
  if (bitrate === undefined) return
  if (!encoder?.bitrate) throw unsupported('bitrate', format, bitrate)
  if (crf !== undefined) throw conflict('bitrate', 'crf', bitrate)
  if (!(Number.isSafeInteger(bitrate) && bitrate >= 1000 && bitrate <= 1e9)) {
    throw invalidArgument('bitrate', 'an integer from 1000 to 1000000000 bits per second', bitrate)
  }
}

function unknownValue(
  parameter: string,
  format: VideoFormat,
  known: readonly (string | undefined)[],
  received: unknown,
) {
  const names = [...new Set(known.filter((name) => name !== undefined))]
  if (names.length === 0) return unsupported(parameter, format, received)
  return invalidArgument(parameter, `one of ${names.join(', ')} for ${format}`, received)
}

function unsupported(parameter: string, format: VideoFormat, received: unknown): TorchreelError {
  return new TorchreelError('ERR_INVALID_ARGUMENT', `${format} has no option ${parameter}`, {
    parameter,
    expected: `no ${parameter} with ${format}`,
    received,
  })
}

/** The input of {@link ffmpegParameters}. */
export interface FfmpegJob {
  readonly width: number
  readonly height: number
  readonly fps: number
  readonly format: VideoFormat
  readonly output: 'file' | 'stream'
  readonly settings: EncodeSettings
  readonly comment: string | undefined
}

/** ffmpeg's parameters for rgb24 frames on stdin, without the name of the output. */
export function ffmpegParameters(encoder: Encoder, job: FfmpegJob): string[] {
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
    // mp4 and webm store it; other muxers ignore it.
    ...(comment === undefined ? [] : ['-metadata', `comment=${comment}`]),
    ...formats[job.format][job.output],
  ]
}
