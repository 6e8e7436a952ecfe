import { invalidArgument } from '../errors.js'
import type { SourceVideo, SourceWishes } from '../video/read/source_video.js'
import { assertWithin } from './limits.js'

/** What sizes and counts depend on. */
export interface ModelLimits {
  readonly vaeScale: number
  readonly vaeSize: number
  readonly size: number | undefined
  /** What the model is best at; undefined where its index does not say. */
  readonly guidanceScale: number | undefined
  readonly textLayers: number
  /** D of the embeddings; null before the checkpoint is known. */
  readonly textSize: number | null
  /** Null before the checkpoint is known. */
  readonly latentChannels: number | null
}

/** What a call is made with where it does not say. */
export const defaults = { steps: 25, frames: 16, fps: 8 } as const

/** The same call, with the frames, the size and the rate of the video that it starts from. */
export function withSource<Call extends { readonly videos: number }>(
  call: Call,
  { width, height, frames, fps }: Pick<SourceVideo, 'width' | 'height' | 'frames' | 'fps'>,
  model: ModelLimits,
  maxPixels: number,
) {
  return { ...call, ...sizesOf({ width, height, frames, fps }, call.videos, model, maxPixels) }
}

/** Sizes as they are asked for, else the model's, within the limits. */
export function sizesOf(
  { frames = defaults.frames, width, height, fps = defaults.fps }: SourceWishes,
  videos: number,
  { size, vaeScale, latentChannels }: ModelLimits,
  maxPixels: number,
) {
  const sides = [width ?? size, height ?? size] as const
  for (const [index, name] of (['width', 'height'] as const).entries()) {
    if (sides[index] !== undefined) continue
    throw invalidArgument(name, 'given: this checkpoint does not say what size it was trained on', undefined)
  }
  const [columns, rows] = sides as [number, number]
  assertWithin(maxPixels, videos * frames * columns * rows, 'frames', 'pixels of all videos')
  const latentShape = [videos, latentChannels, frames, rows / vaeScale, columns / vaeScale]
  return { frames, width: columns, height: rows, fps, latentShape }
}
