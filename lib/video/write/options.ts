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

/** How a video is encoded: for a file, a buffer or a stream. */
export interface EncodeSettings {
  /** The codec: vp9, vp8 or av1 for webm, any of the four for mkv. @defaultValue 'vp9' for webm, else 'h264'; 'vp8' for webm if ffmpeg has no vp9 */
  codec?: VideoCodec | undefined
  /**
   * The constant rate factor of mp4, mov, mkv and webm: 1 to 51 for h264, 0 to 63 for the other codecs. A lower number gives
   * better quality and a larger file. You cannot combine this option with `bitrate`. @defaultValue 18 for h264, else 24
   */
  crf?: number | undefined
  /** Average bits per second of mp4, mov, mkv and webm, instead of a rate factor. */
  bitrate?: number | undefined
  /** The quality of a webp file, 0 to 100. @defaultValue 90 */
  quality?: number | undefined
  /**
   * The resolution of the colours. h264 and vp9 support all three values, av1 supports yuv420p and yuv444p, and vp8 supports
   * only yuv420p. For the other formats, there is no choice. Not every player can show yuv422p and yuv444p. @defaultValue 'yuv420p'
   */
  pixelFormat?: PixelFormat | undefined
  /**
   * Further settings of ffmpeg's encoder, as pairs of a name and a value: `['-preset', 'slow', '-tune', 'animation']`. Only
   * some names are allowed. If a name is not allowed, the error lists the allowed names. Each of them takes one value, which
   * is not a file, so no setting can name another input or output.
   */
  ffmpegArguments?: readonly string[] | undefined
}

export interface EncodeOptions extends EncodeSettings {
  /**
   * Write the video's settings into the file's comment, if they are known. The comment is one line of JSON with prompt,
   * negativePrompt, seed, steps, strength, guidanceScale, scheduler, settings, model, dtype and torchreel. {@link Video.save}
   * explains where the comment is in each format.
   * @defaultValue true
   */
  metadata?: boolean | undefined
  /** The path of ffmpeg, or its name on `PATH`. @defaultValue found automatically: see {@link findFfmpeg} */
  ffmpeg?: string | URL | undefined
  /** Aborts the encoding. ffmpeg is killed, no file stays, and the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
}

export interface EncodeToFileOptions extends EncodeOptions {
  /** Replace an existing file. @defaultValue false: an existing file causes the error `ERR_OUTPUT_EXISTS` */
  overwrite?: boolean | undefined
  /**
   * Also write the video's settings to a JSON file next to the video: `NAME.json` for `NAME.mp4`, or `frames.json` in the
   * folder of a sequence. Either both files appear, or neither file appears. @defaultValue false
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
    says: 'the codec of the file: webm can have vp9, vp8 or av1; mkv can have all four',
    flag: '--codec <name>',
  },
  crf: {
    kind: byFormat(number(0, 63)),
    otherwise: '18 for h264, else 24',
    group,
    says: 'the rate factor: a lower number gives better quality and a larger file; h264 accepts 1 to 51, the other codecs 0 to 63',
    flag: '--crf <n>',
  },
  bitrate: {
    kind: byFormat(integer(1000, 1e9)),
    group,
    unit: 'bit/s',
    says: 'the average bit rate of an mp4, mov, mkv or webm file; use it instead of crf',
    flag: '--bitrate <n>',
  },
  quality: {
    kind: byFormat(number(0, 100)),
    otherwise: '90',
    group,
    says: 'the quality of a webp file; a higher number is better',
    flag: '--quality <n>',
  },
  pixelFormat: {
    kind: byFormat<PixelFormat>(choice(['yuv420p', 'yuv422p', 'yuv444p'])),
    otherwise: "`'yuv420p'`",
    group,
    says: 'how finely colours are stored, from yuv420p (coarsest) to yuv444p (finest); h264 and vp9 support all three, av1 supports yuv420p and yuv444p, vp8 only yuv420p',
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
    says: "further settings of ffmpeg's encoder: a name, its value, the next name, its value and so on",
    flag: '--ffmpeg-argument <argument...>',
  },
  metadata: {
    kind: flag,
    default: true,
    group,
    says: 'write the settings of the call into the comment of the file',
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
  signal: {
    kind: abortSignal,
    group,
    says: 'cancels the encoding; the call then rejects with signal.reason',
  },
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
    says: 'also write the settings of the call to a JSON file next to the video',
    flag: '--sidecar',
  },
} as const satisfies TableOf<EncodeToFileOptions>
