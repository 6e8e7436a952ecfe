import { isUint8Array } from 'node:util/types'
import type { Kind } from '../checks/kinds.js'
import { checkOptions } from '../checks/options.js'
import { invalidArgument } from '../errors.js'
import { checkSize, Video } from './video.js'
import { encodeToFile } from './write/encode.js'
import { type EncodeToFileOptions, saveOptions } from './write/options.js'

/** One picture as rgb24, (height, width, 3). */
export interface ImageFrame {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array
}

export interface ExportToVideoOptions extends EncodeToFileOptions {
  /** Frames per second. Default: the `Video`'s, else 8. */
  fps?: number | undefined
  /** Needed if the frames are plain bytes. */
  width?: number | undefined
  /** Needed if the frames are plain bytes. */
  height?: number | undefined
}

/**
 * Saves frames as a video: see {@link Video.save}.
 *
 * @param frames a `Video`, or rgb24 frames of one size: `{ width, height, data }`, or plain bytes and the size in the options
 * @returns the absolute path
 */
export async function exportToVideo(
  frames: Video | readonly (Uint8Array | ImageFrame)[],
  path: string | URL,
  options: ExportToVideoOptions = {},
): Promise<string> {
  checkOptions(options, exportOptions)
  const { fps = frames instanceof Video ? frames.fps : 8 } = options
  const images = listImages(frames, options)
  const { width = images[0]?.width, height = images[0]?.height } = options
  checkSize('width', width)
  checkSize('height', height)
  const bytes = images.map((image, index) => checkedBytes(image, index, width, height))
  const facts = frames instanceof Video ? frames : {}
  return encodeToFile({ width, height, fps, frames: bytes, facts }, path, options)
}

/** Checked below, and by the format. */
const any: Kind<unknown> = { expected: 'a number', read: (value) => value }
const exportOptions = { ...saveOptions, fps: { kind: any }, width: { kind: any }, height: { kind: any } }

type MaybeSized = Partial<Pick<ImageFrame, 'width' | 'height'>> & Pick<ImageFrame, 'data'>

function listImages(
  frames: Video | readonly (Uint8Array | ImageFrame)[],
  { width, height }: ExportToVideoOptions,
): MaybeSized[] {
  if (frames instanceof Video) {
    const size = { width: frames.width, height: frames.height }
    return Array.from({ length: frames.frameCount }, (_, index) => ({ ...size, data: frames.frame(index) }))
  }
  if (!Array.isArray(frames)) throw invalidArgument('frames', 'a Video or an array of frames', frames)
  if (frames.length === 0) throw invalidArgument('frames', 'at least one frame', frames)
  return frames.map((frame: Uint8Array | ImageFrame, index) => {
    if (isUint8Array(frame)) return { width, height, data: frame } as MaybeSized
    if (isUint8Array(frame?.data)) return frame
    throw invalidArgument(`frames[${index}]`, 'a Uint8Array or { width, height, data: Uint8Array }', frame)
  })
}

function checkedBytes(image: MaybeSized, index: number, width: number, height: number): Uint8Array {
  if (image.width !== width || image.height !== height) {
    throw invalidArgument(`frames[${index}]`, `${width}×${height}`, `${image.width}×${image.height}`)
  }
  if (image.data.byteLength !== width * height * 3) {
    const expected = `rgb24 of ${width}×${height}: ${width * height * 3} bytes`
    throw invalidArgument(`frames[${index}]`, expected, `${image.data.byteLength} bytes`)
  }
  return image.data
}
