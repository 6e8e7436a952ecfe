import type { PixelFormat, VideoCodec } from './options.js'

/** A range of numbers, including both ends. */
export interface Range {
  readonly default: number
  readonly least: number
  readonly most: number
}

/** One of ffmpeg's encoders, and how it is used here. */
export interface Encoder {
  /** ffmpeg's name for it. */
  readonly name: string
  readonly codec?: VideoCodec
  /** Used only if the caller asks for its codec. */
  readonly onRequest?: boolean
  /** Used only if no ffmpeg has any of the others, with a warning. */
  readonly fallback?: boolean
  /** It needs hardware, so it is tested before it is used. */
  readonly hardware?: boolean
  /** The supported pixel formats, the default first. Empty if there is no choice. */
  readonly pixelFormats: readonly PixelFormat[]
  readonly crf?: Range
  readonly quality?: Range
  /** Whether it supports a bit rate. */
  readonly bitrate: boolean
  /** The settings that a caller may add, with ffmpeg's names. Each has one value, and none accepts a file. */
  readonly settings: readonly string[]
  readonly parameters: (choice: Choice) => readonly string[]
  /** The filters that convert rgb24 to the encoder's input. */
  readonly filters: (choice: Choice) => string
}

/** The values for an encoder: rate factor, bit rate or quality, whichever it supports. */
export interface Choice {
  readonly width: number
  readonly height: number
  readonly pixelFormat: PixelFormat
  readonly crf: number
  readonly bitrate: number | undefined
  readonly quality: number
}

const bt709Tags = [
  ...['-colorspace', 'bt709', '-color_primaries', 'bt709', '-color_trc', 'bt709'],
  ...['-color_range', 'tv'],
]

const h264Profiles = { yuv420p: 'high', yuv422p: 'high422', yuv444p: 'high444' }

const rateSettings = ['g', 'keyint_min', 'maxrate', 'minrate', 'bufsize', 'qmin', 'qmax', 'threads']
const blockSettings = ['cpu-used', 'row-mt', 'tile-columns', 'tile-rows', 'lag-in-frames', 'aq-mode', 'tune']

const crf63 = { default: 24, least: 0, most: 63 }

/** Bit rate 0 means constant quality without a limit. */
function rate({ crf, bitrate }: Choice): string[] {
  return bitrate === undefined ? ['-b:v', '0', '-crf', `${crf}`] : ['-b:v', `${bitrate}`]
}

export const libx264: Encoder = {
  name: 'libx264',
  codec: 'h264',
  pixelFormats: ['yuv420p', 'yuv422p', 'yuv444p'],
  // crf 0 would be lossless, which needs the profile High 4:4:4 Predictive. Browsers cannot play it.
  crf: { default: 18, least: 1, most: 51 },
  bitrate: true,
  settings: [
    ...rateSettings,
    ...[
      'preset',
      'tune',
      'level',
      'refs',
      'sc_threshold',
      'rc-lookahead',
      'aq-mode',
      'aq-strength',
      'psy-rd',
    ],
  ],
  parameters: ({ pixelFormat, crf, bitrate }) => [
    ...['-profile:v', h264Profiles[pixelFormat]],
    ...(bitrate === undefined ? ['-crf', `${crf}`] : ['-b:v', `${bitrate}`]),
    ...bt709Tags,
  ],
  filters: (choice) => toYuv(choice, 'bt709'),
}

/** Cisco's encoder, of builds of ffmpeg without GPL code. It has no rate factor, so its quantiser is held in a range. */
export const libopenh264: Encoder = {
  name: 'libopenh264',
  codec: 'h264',
  fallback: true,
  pixelFormats: ['yuv420p'],
  bitrate: true,
  settings: ['g', 'maxrate'],
  parameters: ({ bitrate }) => [
    ...(bitrate === undefined
      ? ['-rc_mode', 'quality', '-b:v', '20M', '-qmin', '16', '-qmax', '22']
      : ['-b:v', `${bitrate}`]),
    ...bt709Tags,
  ],
  filters: (choice) => toYuv(choice, 'bt709'),
}

/** A GPU's H.264 encoder that takes frames from the host's memory. */
function hardwareH264(name: string, quality: readonly string[]): Encoder {
  return {
    ...{ name, codec: 'h264', fallback: true, hardware: true, pixelFormats: ['yuv420p'], bitrate: true },
    settings: ['g', 'maxrate', 'bufsize'],
    parameters: ({ bitrate }) => [
      ...(bitrate === undefined ? quality : ['-b:v', `${bitrate}`]),
      ...['-profile:v', 'high', ...bt709Tags],
    ],
    filters: (choice) => `${toYuv(choice, 'bt709')}${name === 'h264_qsv' ? ',format=nv12' : ''}`,
  }
}

export const nvenc = hardwareH264('h264_nvenc', ['-rc', 'vbr', '-cq', '19', '-b:v', '0'])
export const quickSync = hardwareH264('h264_qsv', ['-global_quality', '20'])

const vpxSpeed = ['-deadline', 'good', '-cpu-used', '2']

export const libvpxVp9: Encoder = {
  name: 'libvpx-vp9',
  codec: 'vp9',
  pixelFormats: ['yuv420p', 'yuv422p', 'yuv444p'],
  crf: crf63,
  bitrate: true,
  settings: [...rateSettings, ...blockSettings, 'deadline', 'auto-alt-ref', 'tune-content', 'sharpness'],
  parameters: (choice) => [...rate(choice), '-row-mt', '1', ...vpxSpeed, ...bt709Tags],
  filters: (choice) => toYuv(choice, 'bt709'),
}

export const libvpx: Encoder = {
  name: 'libvpx',
  codec: 'vp8',
  pixelFormats: ['yuv420p'],
  crf: crf63,
  bitrate: true,
  settings: [...rateSettings, 'cpu-used', 'lag-in-frames', 'deadline', 'auto-alt-ref', 'sharpness'],
  // VP8 needs a maximum bit rate, its rate factor starts at 4, and its colours are always BT.601.
  parameters: ({ crf, bitrate }) => [
    ...(bitrate === undefined ? ['-b:v', '100M', '-crf', `${Math.max(crf, 4)}`] : ['-b:v', `${bitrate}`]),
    ...vpxSpeed,
    ...['-colorspace', 'smpte170m'],
  ],
  filters: (choice) => toYuv(choice, 'bt601'),
}

export const libaom: Encoder = {
  name: 'libaom-av1',
  codec: 'av1',
  onRequest: true,
  pixelFormats: ['yuv420p', 'yuv444p'],
  crf: crf63,
  bitrate: true,
  settings: [...rateSettings, ...blockSettings, 'usage', 'denoise-noise-level'],
  // Before ffmpeg 4.3 this encoder was marked experimental.
  parameters: (choice) => [...rate(choice), '-strict', 'experimental', '-cpu-used', '6', ...bt709Tags],
  filters: (choice) => toYuv(choice, 'bt709'),
}

/** Faster than libaom, but each side needs at least 64 pixels. */
export const libsvtav1: Encoder = {
  name: 'libsvtav1',
  codec: 'av1',
  onRequest: true,
  pixelFormats: ['yuv420p'],
  crf: crf63,
  bitrate: true,
  settings: ['g', 'qmin', 'qmax', 'preset'],
  parameters: ({ crf, bitrate }) => [
    ...(bitrate === undefined ? ['-crf', `${crf}`] : ['-b:v', `${bitrate}`]),
    ...['-preset', '8', ...bt709Tags],
  ],
  filters: (choice) => toYuv(choice, 'bt709'),
}

export const gif: Encoder = {
  name: 'gif',
  pixelFormats: [],
  bitrate: false,
  settings: [],
  parameters: () => [],
  // Each frame has its own palette: a fifth of the error of one palette for all frames.
  filters: () =>
    'split[frames][sample];[sample]palettegen=stats_mode=single[palette];[frames][palette]paletteuse=new=1',
}

export const libwebp: Encoder = {
  name: 'libwebp_anim',
  pixelFormats: [],
  quality: { default: 90, least: 0, most: 100 },
  bitrate: false,
  settings: ['preset', 'compression_level'],
  parameters: ({ quality }) => ['-quality', `${quality}`],
  filters: () => 'format=bgra',
}

/** How many pixels of a row, and of a column, share one colour value. */
const sharing = { yuv420p: [2, 2], yuv422p: [2, 1], yuv444p: [1, 1] } as const

/** Converts to 8 bits in limited range. If pixels share colour in pairs, an odd side grows by a copy of its last pixel. */
function toYuv({ width, height, pixelFormat }: Choice, matrix: string): string {
  const [across, down] = sharing[pixelFormat]
  const [right, bottom] = [width % across, height % down]
  const pad = `format=gbrp,pad=${width + right}:${height + bottom}:0:0,fillborders=0:${right}:0:${bottom}:smear,`
  const scale = `scale=out_color_matrix=${matrix}:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_inp`
  return `${right || bottom ? pad : ''}${scale},format=${pixelFormat}`
}
