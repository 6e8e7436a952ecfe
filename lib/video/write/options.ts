import {
  abortSignal,
  anyText,
  choice,
  filePath,
  flag,
  integer,
  type Kind,
  list,
  number,
} from '../../checks/kinds.js'
import type { TableOf } from '../../checks/options.js'

/** ffmpeg's codecs: h264 for mp4, mov and mkv, the others for webm and mkv. */
export type VideoCodec = 'h264' | 'vp9' | 'vp8' | 'av1'

/** The resolution of the colours: one for 2 × 2 pixels, for 2 pixels of a row, or for every pixel. */
export type PixelFormat = 'yuv420p' | 'yuv422p' | 'yuv444p'

/** How a video is encoded, whatever it is written to. */
export interface EncodeSettings {
  /** webm: vp9, vp8 or av1; mkv: all four. @defaultValue 'vp9' for webm, else 'h264'; 'vp8' for webm if ffmpeg has no vp9 */
  codec?: VideoCodec | undefined
  /**
   * Constant rate factor of mp4, mov, mkv and webm. A lower one gives better quality and a larger file. h264: 1 to 51.
   * Other codecs: 0 to 63. Cannot be combined with `bitrate`. @defaultValue 18 for h264, else 24
   */
  crf?: number | undefined
  /** Average bits per second of mp4, mov, mkv and webm, instead of a rate factor. */
  bitrate?: number | undefined
  /** Quality of a webp: 0 to 100. @defaultValue 90 */
  quality?: number | undefined
  /**
   * The resolution of the colours. h264 and vp9 have all three, av1 has yuv420p and yuv444p. vp8 has only yuv420p. The other
   * formats have no choice. Not every player can show yuv422p and yuv444p. @defaultValue 'yuv420p'
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
  /** Path of the ffmpeg to use, or its name on `PATH`. @defaultValue found automatically: see {@link findFfmpeg} */
  ffmpeg?: string | URL | undefined
  /** Ends the encoding: ffmpeg is killed, nothing stays, and the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
}

export interface EncodeToFileOptions extends EncodeOptions {
  /** Replace what is there. @defaultValue false: `ERR_OUTPUT_EXISTS` */
  overwrite?: boolean | undefined
  /**
   * Write all that is known of the video as JSON beside it: `NAME.json` for `NAME.mp4`, `frames.json` in the folder of a
   * sequence. Both appear or neither does. @defaultValue false
   */
  sidecar?: boolean | undefined
}

const group = 'The file'

/** A value that depends on the format: {@link checkSettings} checks it, and names the format in its message. */
function byFormat<T>(kind: Kind<T>): Kind<T> {
  return { ...kind, read: (value) => value as T }
}

/** The options of encoding to a buffer or a stream. */
export const encodeOptions = {
  codec: {
    kind: byFormat<VideoCodec>(choice(['h264', 'vp9', 'vp8', 'av1'])),
    otherwise: "`'vp9'` for webm, else `'h264'`",
    group,
    says: 'the codec: vp9, vp8 or av1 for webm, any of the four for mkv',
    flag: '--codec <name>',
  },
  crf: {
    kind: byFormat(number(0, 63)),
    otherwise: '18 for h264, else 24',
    group,
    says: 'rate factor: 1 to 51 for h264, 0 to 63 for the other codecs; a lower number gives better quality and a larger file',
    flag: '--crf <n>',
  },
  bitrate: {
    kind: byFormat(integer(1000, 1e9)),
    group,
    unit: 'bit/s',
    says: 'average bit rate of mp4, mov, mkv and webm, instead of a rate factor',
    flag: '--bitrate <n>',
  },
  quality: {
    kind: byFormat(number(0, 100)),
    otherwise: '90',
    group,
    says: 'quality of a webp file',
    flag: '--quality <n>',
  },
  pixelFormat: {
    kind: byFormat<PixelFormat>(choice(['yuv420p', 'yuv422p', 'yuv444p'])),
    otherwise: "`'yuv420p'`",
    group,
    says: 'resolution of the colours; h264 and vp9 support all three values, av1 supports yuv420p and yuv444p',
    flag: '--pixel-format <name>',
  },
  ffmpegArguments: {
    kind: {
      ...list(anyText),
      expected: 'an array of strings',
      fromText: undefined, // a command line gives several words
      read: (value): readonly string[] | undefined => (Array.isArray(value) ? value : undefined),
    },
    group,
    says: "further settings of ffmpeg's encoder, as pairs of a name and a value",
    flag: '--ffmpeg-argument <argument...>',
  },
  metadata: {
    kind: flag,
    default: true,
    group,
    says: "write the video's settings into the file's comment",
    flag: '--no-metadata',
    flagSays: "do not write the video's settings into the file's comment",
  },
  ffmpeg: {
    kind: filePath,
    group,
    otherwise: 'found automatically',
    says: 'the path of ffmpeg',
    see: ['where torchreel looks', 'libtorch-and-ffmpeg.md'],
  },
  signal: { kind: abortSignal, group, says: 'aborts the encoding; the call then rejects with signal.reason' },
} as const satisfies TableOf<EncodeOptions>

/** The options of a file. */
export const saveOptions = {
  ...encodeOptions,
  overwrite: {
    kind: flag,
    default: false,
    group,
    says: 'replace an existing file',
    flag: '--overwrite',
  },
  sidecar: {
    kind: flag,
    default: false,
    group,
    says: "also write the video's settings to a JSON file next to the video",
    flag: '--sidecar',
  },
} as const satisfies TableOf<EncodeToFileOptions>
