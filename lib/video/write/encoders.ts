import type { PixelFormat, VideoCodec } from './options.js'

/** A range of numbers, both ends in it. */
export interface Range {
  readonly default: number
  readonly least: number
  readonly most: number
}

/** One of ffmpeg's encoders, and how it is used here. */
export interface Encoder {
  /** ffmpeg's name of it. */
  readonly name: string
  readonly codec?: VideoCodec
  /** It is used only if its codec is asked for. */
  readonly onRequest?: boolean
  /** It is used only where no ffmpeg has one of the others, and a warning says so. */
  readonly fallback?: boolean
  /** It needs hardware, so it is tried before it is used. */
  readonly hardware?: boolean
  /** Those it takes; the first is the default. None where there is no choice. */
  readonly pixelFormats: readonly PixelFormat[]
  readonly crf?: Range
  readonly quality?: Range
  /** Whether it takes a bit rate. */
  readonly bitrate: boolean
  /** The settings that a caller may add, by ffmpeg's names. Each takes one value, and none of them takes a file. */
  readonly settings: readonly string[]
  readonly parameters: (choice: Choice) => readonly string[]
  /** The filters that take rgb24 to what is encoded. */
  readonly filters: (choice: Choice) => string
}

/** What was chosen for an encoder: rate factor, bit rate or quality, as it has them. */
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

/** Bit rate 0: constant quality, no ceiling. */
function rate({ crf, bitrate }: Choice): string[] {
  return bitrate === undefined ? ['-b:v', '0', '-crf', `${crf}`] : ['-b:v', `${bitrate}`]
}

export const libx264: Encoder = {
  name: 'libx264',
  codec: 'h264',
  pixelFormats: ['yuv420p', 'yuv422p', 'yuv444p'],
  // crf 0 would be lossless, which only High 4:4:4 Predictive has: browsers refuse it.
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
  // VP8 wants a ceiling, its rate factor starts at 4, and its colours are BT.601 by definition.
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
  // Before ffmpeg 4.3 it was marked experimental.
  parameters: (choice) => [...rate(choice), '-strict', 'experimental', '-cpu-used', '6', ...bt709Tags],
  filters: (choice) => toYuv(choice, 'bt709'),
}

/** Faster than libaom, but it takes no side below 64 pixels. */
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
  // Each frame has the 256 colours that serve it best: a fifth of the error of one palette for all.
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

/** How many pixels of a row and of a column share their colour. */
const sharing = { yuv420p: [2, 2], yuv422p: [2, 1], yuv444p: [1, 1] } as const

/** To 8 bits in limited range. A side that is shared by twos and is odd grows by a copy of its last pixel. */
function toYuv({ width, height, pixelFormat }: Choice, matrix: string): string {
  const [across, down] = sharing[pixelFormat]
  const [right, bottom] = [width % across, height % down]
  const pad = `format=gbrp,pad=${width + right}:${height + bottom}:0:0,fillborders=0:${right}:0:${bottom}:smear,`
  const scale = `scale=out_color_matrix=${matrix}:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_inp`
  return `${right || bottom ? pad : ''}${scale},format=${pixelFormat}`
}
