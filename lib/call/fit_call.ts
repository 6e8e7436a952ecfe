import { checkValue, integer } from '../checks/kinds.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import type { ModelProperties } from '../families/family.js'
import { refuseForFamily } from '../families/refused_options.js'
import { callOptions } from '../options/call.js'
import type { Limits } from '../options/limits.js'
import { tensor } from '../tensor.js'
import type { SourceVideo } from '../video/read/source_video.js'
import { checkOutputPlan } from '../video/write/recording.js'
import { type Call, checkPixels, checkSteps } from './check_call.js'

/** What a call needs to know of its model to be checked. */
export type CallModel = Pick<
  ModelProperties,
  | 'family'
  | 'defaults'
  | 'size'
  | 'sizeMultiple'
  | 'frameMultiple'
  | 'vaeScale'
  | 'tileSize'
  | 'latentChannels'
  | 'textLayers'
  | 'textSize'
>

/** The VAE's tiles: their side in pixels, and the fraction of it that they share. */
export interface Tiling {
  readonly tileSize: number
  readonly overlap: number
}

/** A call that its model can honour, with the model's defaults. Its sizes may still be those of a video to be read. */
export interface FittedCall extends Omit<Call, 'vaeTiling'> {
  readonly steps: number
  readonly guidanceScale: number | readonly number[]
  readonly vaeTiling: Tiling | undefined
}

/** A call whose sizes are known. */
export interface SizedCall extends FittedCall {
  readonly frames: number
  readonly width: number
  readonly height: number
  readonly fps: number
  /** B, C, F, h, w */
  readonly latentShape: readonly number[]
}

/**
 * Fits a call to its model: what its family refuses, what its text encoder and VAE can take, and its defaults.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function fitCall(call: Call, model: CallModel): FittedCall {
  const { video, promptEmbeds, width, height, vaeTiling } = call
  refuseForFamily(call, callOptions, model.family)
  if (promptEmbeds) checkValue(tensor([null, null, model.textSize]), 'promptEmbeds', promptEmbeds)
  checkValue(integer(0, model.textLayers - 1), 'clipSkip', call.clipSkip)
  checkMultiple('width', width, model.sizeMultiple)
  checkMultiple('height', height, model.sizeMultiple)
  checkFrames(call.frames, model.frameMultiple)
  if (vaeTiling) checkMultiple('vaeTiling.tileSize', vaeTiling.tileSize, model.vaeScale)
  const { defaults } = model
  const steps = call.steps ?? defaults.steps
  const strength = video === undefined ? undefined : (call.strength ?? defaults.strength)
  checkSteps(steps, { guidanceScale: call.guidanceScale, strength })
  return {
    ...call,
    steps,
    strength,
    guidanceScale:
      call.guidanceScale ?? (video === undefined ? defaults.guidanceScale : defaults.videoGuidanceScale),
    vaeTiling: vaeTiling ? { ...vaeTiling, tileSize: vaeTiling.tileSize ?? model.tileSize } : undefined,
  }
}

/**
 * Gives a call its sizes: as it asks for them, else those of the video that it starts from, else the model's.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`
 */
export function sizeCall(
  call: FittedCall,
  model: CallModel,
  limits: Limits,
  source?: SourceVideo,
): SizedCall {
  const frames = source?.frames ?? call.frames ?? model.defaults.frames
  const width = source?.width ?? call.width ?? model.size?.width
  const height = source?.height ?? call.height ?? model.size?.height
  checkFrames(frames, model.frameMultiple)
  const fps = source?.fps ?? call.fps ?? model.defaults.fps
  if (width === undefined || height === undefined) {
    const missing = width === undefined ? 'width' : 'height'
    throw new TorchreelError('ERR_INVALID_ARGUMENT', `${missing} is needed: this checkpoint names no size`, {
      parameter: missing,
      expected: 'a size',
      received: undefined,
    })
  }
  checkPixels(call.videos * frames * width * height, limits)
  const latentFrames = (frames - 1) / model.frameMultiple + 1
  const { videos, latents } = call
  const latentShape = [
    videos,
    model.latentChannels,
    latentFrames,
    height / model.vaeScale,
    width / model.vaeScale,
  ]
  if (latents) checkValue(tensor(latentShape), 'latents', latents)
  if (call.output) checkOutputPlan(call.output, { fps, frameCount: frames })
  return { ...call, frames, width, height, fps, latentShape }
}

function checkMultiple(name: string, size: number | undefined, multiple: number): void {
  if (size === undefined || size % multiple === 0) return
  const nearest = Math.max(multiple, Math.round(size / multiple) * multiple)
  throw invalidArgument(name, `a multiple of ${multiple}, such as ${nearest}`, size)
}

/** Frames beside the first come in groups of `multiple`. */
function checkFrames(frames: number | undefined, multiple: number): void {
  if (frames === undefined || (frames - 1) % multiple === 0) return
  const below = Math.floor((frames - 1) / multiple) * multiple + 1
  throw invalidArgument(
    'frames',
    `a multiple of ${multiple} and 1 more, such as ${below} or ${below + multiple}`,
    frames,
  )
}
