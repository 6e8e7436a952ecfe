import { invalidArgument, TorchreelError } from '../errors.js'
import type { ModelFacts } from '../families/family.js'
import type { SourceVideo, SourceWishes } from '../video/read/source_video.js'
import { assertWithin } from './limits.js'

/** What the checks of a call need to know of the model; null before the checkpoint is known. */
export interface ModelLimits
  extends Pick<
    ModelFacts,
    'defaults' | 'size' | 'sizeMultiple' | 'frameMultiple' | 'vaeScale' | 'tileSize' | 'textLayers'
  > {
  readonly textSize: number | null
  readonly latentChannels: number | null
}

/** The same call, with the frames, the size and the rate of the video that it starts from. */
export function withSource<Call extends { readonly videos: number }>(
  call: Call,
  { width, height, frames, fps }: Pick<SourceVideo, 'width' | 'height' | 'frames' | 'fps'>,
  model: ModelLimits,
  maxPixels: number,
) {
  return { ...call, ...fitSizes({ width, height, frames, fps }, call.videos, model, maxPixels) }
}

/**
 * The sizes of a call: those that the caller asks for, else the model's, within the limits. `latentShape` is
 * (B, C, F, height / scale, width / scale).
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`
 */
export function fitSizes(wishes: SourceWishes, videos: number, model: ModelLimits, maxPixels: number) {
  const { frames = model.defaults.frames, fps = model.defaults.fps } = wishes
  const width = wishes.width ?? requireSide('width', model.size?.width)
  const height = wishes.height ?? requireSide('height', model.size?.height)
  checkFrames(frames, model.frameMultiple)
  assertWithin(maxPixels, videos * frames * width * height, 'frames', 'pixels of all videos')
  const { latentChannels, frameMultiple, vaeScale } = model
  const latentFrames = (frames - 1) / frameMultiple + 1
  const latentShape = [videos, latentChannels, latentFrames, height / vaeScale, width / vaeScale]
  return { frames, width, height, fps, latentShape }
}

function requireSide(name: 'width' | 'height', side: number | undefined): number {
  if (side !== undefined) return side
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `${name} is required: this checkpoint does not say which size it was trained on`,
    { parameter: name, expected: 'a number of pixels', received: undefined },
  )
}

/** A VAE that compresses time encodes the first frame alone, and after it `multiple` frames at a time. */
function checkFrames(frames: number, multiple: number): void {
  if ((frames - 1) % multiple === 0) return
  const nearest = Math.round((frames - 1) / multiple) * multiple + 1
  throw invalidArgument('frames', `a multiple of ${multiple} plus 1, such as ${nearest}`, frames)
}
