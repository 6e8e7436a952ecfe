import { setImmediate } from 'node:timers/promises'
import { isUint8Array } from 'node:util/types'
import { type Kind, text } from '../../checks/kinds.js'
import { invalidArgument, TorchreelError } from '../../errors.js'
import { isUrl, readPath } from '../../files/paths.js'
import { Video } from '../video.js'
import { type RgbImage, resizeImage } from './resize.js'
import { type FileFrames, readVideoFile } from './video_file.js'

/** The rates that video files can have, in frames per second. */
const leastFps = 0.1
const mostFps = 240

/** A video to start from: a file that ffmpeg can read, a {@link Video}, or frames of rgb24. */
export type VideoInput = string | URL | Video | readonly RgbImage[]

/** The frame count, size and rate that the caller asked for. Default: the video's own. */
export interface SourceWishes {
  readonly width?: number | undefined
  readonly height?: number | undefined
  /** Read only this many frames from the start. */
  readonly frames?: number | undefined
  readonly fps?: number | undefined
}

interface ReadingOptions {
  /** The video's own size is rounded to the nearest multiple of this many pixels. */
  readonly multiple: number
  /** The video's own length is cut to 1 frame more than a multiple of this. */
  readonly frameMultiple: number
  readonly maxPixels: number
  /** The ffmpeg to use, if the caller names one. */
  readonly ffmpeg: string | undefined
  readonly signal: AbortSignal | undefined
}

export interface SourceVideo {
  readonly width: number
  readonly height: number
  readonly frames: number
  readonly fps: number | undefined
  /** rgb24, (frames, height, width, 3). */
  readonly data: Uint8Array
  /** Changes to the video that the caller did not ask for. */
  readonly warnings: readonly string[]
}

/** A file, a Video, or frames; each frame is looked at. */
export const videoInput: Kind<VideoInput> = {
  expected: 'a file, a Video, or frames { width, height, data } of rgb24, all of one size',
  schema: text.schema,
  read(value, name) {
    if (value instanceof Video || (isUrl(value) && value.protocol === 'file:')) return value
    if (typeof value === 'string') return text.read(value, name)
    const frames = Array.isArray(value) ? (value as Partial<RgbImage | null>[]) : []
    const [first] = frames
    const bad = frames.findIndex(
      (frame) =>
        !isUint8Array(frame?.data) ||
        frame.width !== first?.width ||
        frame.height !== first?.height ||
        frame.data.byteLength !== (frame.width ?? 0) * (frame.height ?? 0) * 3,
    )
    if (bad >= 0) throw invalidArgument(`${name}[${bad}]`, this.expected, frames[bad])
    return frames.length > 0 ? (frames as RgbImage[]) : undefined
  },
}

/**
 * Reads a video and resizes it. Without a wish for the size, its own size is rounded to the nearest multiple of `multiple`,
 * and without one for the frames, those at the end that do not fit `frameMultiple` are left out.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a file that cannot be read or has too few frames,
 * `ERR_LIMIT_EXCEEDED` for more pixels than `maxPixels`, `ERR_ENCODER_NOT_FOUND` for a file without an ffmpeg to read it;
 * `signal.reason`
 */
export async function readSourceVideo(
  input: VideoInput,
  wishes: SourceWishes,
  { multiple, frameMultiple, maxPixels, ffmpeg, signal }: ReadingOptions,
): Promise<SourceVideo> {
  const nearest = (side: number) => Math.max(multiple, Math.round(side / multiple) * multiple)
  const resized: Uint8Array[] = []
  const take = (frame: RgbImage) => {
    const { width = nearest(frame.width), height = nearest(frame.height) } = wishes
    if ((resized.length + 1) * width * height > maxPixels) {
      throw new TorchreelError(
        'ERR_LIMIT_EXCEEDED',
        `video has more than ${maxPixels} pixels in all frames`,
        {
          parameter: 'video',
          expected: `at most ${maxPixels} pixels; the option frames reads fewer frames`,
        },
      )
    }
    resized.push(resizeImage(frame, width, height).data)
  }
  const most = wishes.frames ?? Number.POSITIVE_INFINITY
  const source = await readFrames(input, most, take, { ffmpeg, signal })
  if (resized.length === 0) {
    throw new TorchreelError('ERR_INVALID_ARGUMENT', 'video has no frames', {
      parameter: 'video',
      expected: 'a video with at least one frame',
      received: input,
    })
  }
  if (wishes.frames !== undefined && resized.length < wishes.frames) {
    throw invalidArgument('frames', `at most ${resized.length}, the number in the video`, wishes.frames)
  }
  const { width = nearest(source.width), height = nearest(source.height) } = wishes
  const warnings: string[] = []
  if (
    (wishes.width === undefined && width !== source.width) ||
    (wishes.height === undefined && height !== source.height)
  ) {
    warnings.push(
      `video was resized from ${source.width}×${source.height} to ${width}×${height}, multiples of ${multiple}`,
    )
  }
  const surplus = wishes.frames === undefined ? (resized.length - 1) % frameMultiple : 0
  if (surplus > 0) {
    warnings.push(
      `the last ${surplus} of the ${resized.length} frames of video were left out: the model makes a multiple of ` +
        `${frameMultiple} and 1 more`,
    )
    resized.length -= surplus
  }
  return {
    width,
    height,
    frames: resized.length,
    fps: wishes.fps ?? writableRate(source, resized.length, warnings),
    data: Buffer.concat(resized),
    warnings,
  }
}

async function readFrames(
  input: VideoInput,
  most: number,
  take: (frame: RgbImage) => void,
  how: Pick<ReadingOptions, 'ffmpeg' | 'signal'>,
): Promise<FileFrames> {
  if (typeof input === 'string' || isUrl(input)) {
    const path = readPath(input)
    if (path === undefined) throw invalidArgument('video', 'an existing file', input)
    return readVideoFile(path, most, take, how)
  }
  await readMemory(input, most, take)
  const { width, height } = input instanceof Video ? input : (input[0] as RgbImage)
  return { width, height, fps: input instanceof Video ? input.fps : undefined, varies: false }
}

/** The rate of a source, within the rates that a video file can have. */
function writableRate({ fps, varies }: FileFrames, frames: number, warnings: string[]): number | undefined {
  if (fps === undefined) return undefined
  const written = Math.min(Math.max(fps, leastFps), mostFps)
  if (varies)
    warnings.push(`the frame rate of video varies: ${frames} frames were read, ${fps} per second on average`)
  if (written !== fps) warnings.push(`the frame rate of video, ${fps}, becomes ${written}`)
  return written
}

/** Hands on the first `most` frames of a Video, or of frames in memory. */
async function readMemory(
  input: Video | readonly RgbImage[],
  most: number,
  take: (frame: RgbImage) => void,
): Promise<void> {
  const frames = input instanceof Video ? input.frameCount : input.length
  for (let index = 0; index < Math.min(most, frames); index++) {
    const { width, height } = input as Video
    take(input instanceof Video ? { width, height, data: input.frame(index) } : (input[index] as RgbImage))
    await setImmediate()
  }
}
