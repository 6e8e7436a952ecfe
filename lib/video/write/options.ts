import { abortSignal, type Check, filePath, flag, reader } from '../../checks/checks.js'
import { invalidArgument } from '../../errors.js'

/** ffmpeg's codecs: h264 for mp4, the others for webm. */
export type VideoCodec = 'h264' | 'vp9' | 'vp8' | 'av1'

/** How often colour is kept: once for 2 · 2 pixels, for 2 pixels of a row, for every pixel. */
export type PixelFormat = 'yuv420p' | 'yuv422p' | 'yuv444p'

/** How a video is encoded, whatever it is written to. */
export interface EncodeSettings {
  /** The codec of a webm: vp9, vp8 or av1. @defaultValue vp9, or vp8 where ffmpeg has only that; h264 for mp4 */
  codec?: VideoCodec | undefined
  /**
   * Constant rate factor: lower is better and larger. mp4: 1 to 51, default 18. webm: 0 to 63, default 24. The other
   * formats have none. Not together with `bitrate`.
   */
  crf?: number | undefined
  /** Bits per second on average, in place of a rate factor: mp4 and webm. */
  bitrate?: number | undefined
  /** Quality of a webp: 0 to 100. @defaultValue 90 */
  quality?: number | undefined
  /**
   * How colour is kept: h264 and vp9 have all three, av1 has yuv420p and yuv444p, vp8 and the other formats have no
   * choice. Players are only sure to know yuv420p. @defaultValue 'yuv420p'
   */
  pixelFormat?: PixelFormat | undefined
  /**
   * More of ffmpeg's own parameters, as pairs: `['-preset', 'slow', '-tune', 'animation']`. Every name must be a setting
   * of the encoder that takes one value and no file, from a list that the error message gives; so none of them can name
   * another input or output.
   */
  ffmpegArguments?: readonly string[] | undefined
}

export interface EncodeOptions extends EncodeSettings {
  /**
   * Write how the video was made into the file's comment, if it is known: prompt, negativePrompt, seed, steps, strength,
   * guidanceScale, scheduler, settings, model, dtype and torchreel as one line of JSON. See {@link Video.save} for where
   * it stands.
   * @defaultValue true
   */
  metadata?: boolean | undefined
  /** Path of the ffmpeg to use, or its name on `PATH`. Default: see {@link findFfmpeg}. */
  ffmpeg?: string | URL | undefined
  /** Ends the encoding: ffmpeg is killed, nothing stays, and the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
}

export interface EncodeToFileOptions extends EncodeOptions {
  /** Replace what is there. Default false: `ERR_OUTPUT_EXISTS`. */
  overwrite?: boolean | undefined
  /**
   * Write all that is known of the video as JSON beside it: `NAME.json` for `NAME.mp4`, `frames.json` in the folder of a
   * sequence. Both appear or neither does. @defaultValue false
   */
  sidecar?: boolean | undefined
}

export const encodeOptions = [
  ...(['codec', 'crf', 'bitrate', 'quality', 'pixelFormat', 'ffmpegArguments'] as const),
  ...(['metadata', 'ffmpeg', 'signal'] as const),
]
export const saveOptions = [...encodeOptions, 'overwrite', 'sidecar'] as const

/** Those that mean the same for every format; the others are checked against the format. */
const checks: Readonly<Record<string, Check<unknown>>> = {
  ffmpegArguments: (name, value) => {
    if (Array.isArray(value)) return value
    throw invalidArgument(name, 'an array of strings', value)
  },
  metadata: flag,
  ffmpeg: filePath,
  signal: abortSignal,
  overwrite: flag,
  sidecar: flag,
}

/** Refuses an option that there is not, and a value that no format takes. */
export function checkOptions(options: object, names: readonly string[]): void {
  const read = reader(options, names)
  for (const [name, check] of Object.entries(checks)) read(name, undefined, check)
}
