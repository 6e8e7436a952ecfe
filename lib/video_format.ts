import { invalidArgument } from './errors.js'
import type { Ffmpeg } from './ffmpeg.js'

/** A format that is one file or one stream of bytes. */
export type VideoFormat = 'mp4' | 'webm' | 'gif'

interface Codec {
  /** ffmpeg's name of the encoder. */
  readonly encoder: string
  readonly parameters: (crf: number) => readonly string[]
  /** The colour matrix, as ffmpeg's scale filter names it, and the tags that tell players. None where rgb stays rgb. */
  readonly colour?: { readonly matrix: string; readonly tags: readonly string[] }
}

interface Format {
  /** The best first: the first that ffmpeg has is used. */
  readonly codecs: readonly Codec[]
  readonly file: readonly string[]
  readonly stream: readonly string[]
  readonly crf?: { readonly default: number; readonly least: number; readonly most: number }
  readonly mostFps: number
}

const mostFps = 240

const bt709 = {
  matrix: 'bt709',
  tags: ['-colorspace', 'bt709', '-color_primaries', 'bt709', '-color_trc', 'bt709', '-color_range', 'tv'],
}

const vpxSpeed = ['-deadline', 'good', '-cpu-used', '2']

const formats: Readonly<Record<VideoFormat, Format>> = {
  mp4: {
    codecs: [
      {
        encoder: 'libx264',
        // crf 0 would be lossless, which only High 4:4:4 Predictive has: browsers refuse it.
        parameters: (crf) => ['-profile:v', 'high', '-crf', `${crf}`],
        colour: bt709,
      },
    ],
    file: ['-movflags', '+faststart', '-f', 'mp4'],
    // A pipe cannot be sought to write the index afterwards: one per fragment instead. Without an edit list, frames out
    // of order would delay the first by two: no B-frames.
    stream: ['-bf', '0', '-movflags', 'frag_keyframe+empty_moov+default_base_moof', '-f', 'mp4'],
    crf: { default: 18, least: 1, most: 51 },
    mostFps,
  },
  webm: {
    codecs: [
      {
        encoder: 'libvpx-vp9',
        // Bit rate 0: constant quality, no ceiling.
        parameters: (crf) => ['-b:v', '0', '-crf', `${crf}`, '-row-mt', '1', ...vpxSpeed],
        colour: bt709,
      },
      {
        encoder: 'libvpx',
        // VP8 wants a ceiling, its rate factor starts at 4, and its colours are BT.601 by definition.
        parameters: (crf) => ['-b:v', '100M', '-crf', `${Math.max(crf, 4)}`, ...vpxSpeed],
        colour: { matrix: 'bt601', tags: ['-colorspace', 'smpte170m'] },
      },
    ],
    file: ['-f', 'webm'],
    stream: ['-f', 'webm'],
    crf: { default: 24, least: 0, most: 63 },
    mostFps,
  },
  gif: {
    codecs: [{ encoder: 'gif', parameters: () => [] }],
    file: ['-loop', '0', '-f', 'gif'],
    stream: ['-loop', '0', '-f', 'gif'],
    // A GIF counts in hundredths of a second, and browsers slow down what is shown for less than two.
    mostFps: 50,
  },
}

export function isVideoFormat(name: string): name is VideoFormat {
  return Object.hasOwn(formats, name)
}

export function checkFormat(format: string): asserts format is VideoFormat {
  if (!isVideoFormat(format))
    throw invalidArgument('format', `one of ${Object.keys(formats).join(', ')}`, format)
}

/** Checks frame rate and rate factor against what the format can do. */
export function checkRate(
  format: VideoFormat | 'png',
  fps: number | undefined,
  crf: number | undefined,
): void {
  const limits: Pick<Format, 'mostFps' | 'crf'> = format === 'png' ? { mostFps } : formats[format]
  if (fps !== undefined && !(typeof fps === 'number' && fps >= 0.1 && fps <= limits.mostFps)) {
    throw invalidArgument('fps', `a number from 0.1 to ${limits.mostFps} for ${format}`, fps)
  }
  if (crf === undefined) return
  if (!limits.crf) throw invalidArgument('crf', `left out for ${format}, which has none`, crf)
  const { least, most } = limits.crf
  if (!(typeof crf === 'number' && crf >= least && crf <= most)) {
    throw invalidArgument('crf', `a number from ${least} to ${most} for ${format}`, crf)
  }
}

/** The encoders that can make a format: ffmpeg must have one of them. */
export function encodersOf(format: VideoFormat): string[] {
  return formats[format].codecs.map(({ encoder }) => encoder)
}

/** ffmpeg's parameters for rgb24 frames on stdin: all but the name of the output. */
export function encoderParameters(
  ffmpeg: Ffmpeg,
  { width, height, fps }: { readonly width: number; readonly height: number; readonly fps: number },
  format: VideoFormat,
  output: 'file' | 'stream',
  crf: number | undefined,
): string[] {
  const { codecs, crf: crfRange, ...muxer } = formats[format]
  const codec = codecs.find(({ encoder }) => ffmpeg.encoders.has(encoder)) as Codec
  const { colour } = codec
  return [
    ...['-v', 'error', '-nostdin', '-y'],
    ...['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-video_size', `${width}x${height}`, '-framerate', `${fps}`],
    ...['-i', 'pipe:0', '-vf', colour ? toYuv420(width, height, colour.matrix) : toPalette],
    ...['-c:v', codec.encoder, ...codec.parameters(crf ?? crfRange?.default ?? 0), ...(colour?.tags ?? [])],
    ...muxer[output],
  ]
}

/** To 8-bit 4:2:0 in limited range. It halves both sides: an odd one grows by a copy of its last pixel. */
function toYuv420(width: number, height: number, matrix: string): string {
  const [right, bottom] = [width % 2, height % 2]
  const pad = `format=gbrp,pad=${width + right}:${height + bottom}:0:0,fillborders=0:${right}:0:${bottom}:smear,`
  const scale = `scale=out_color_matrix=${matrix}:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_inp`
  return `${right || bottom ? pad : ''}${scale},format=yuv420p`
}

/** To the 256 colours that serve all frames best. */
const toPalette = 'split[frames][sample];[sample]palettegen[palette];[frames][palette]paletteuse'
