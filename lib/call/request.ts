import type { NativeRequest, NativeText } from '../addon/interface.js'
import type { Numbers } from '../checks/checks.js'
import { invalidArgument } from '../errors.js'
import type { CheckedGenerateOptions } from '../options/call.js'
import type { DenoisingProgram } from '../schedulers/program.js'
import type { Tokenizer } from '../text/clip_tokenizer.js'
import type { SourceVideo } from '../video/read/source_video.js'
import { guidancePerCall } from './guidance.js'

/** What of a pipeline a request depends on. */
interface RequestContext {
  readonly tokenizer: Tokenizer
  readonly vaeScale: number
  /** Gets a line for each prompt that was cut short. */
  readonly warnings: string[]
}

/** A call as the core takes it: token ids or embeddings, a guidance scale for each call of the program. */
export function requestOf(
  checked: CheckedGenerateOptions,
  video: SourceVideo | undefined,
  program: DenoisingProgram,
  seeds: number[],
  { tokenizer, vaeScale, warnings }: RequestContext,
): NativeRequest {
  const { prompts, negativePrompts, promptEmbeds, negativePromptEmbeds, clipSkip, window } = checked
  const { vaeTiling, freeU } = checked
  const guidance = guidancePerCall(checked, program.timesteps.length)
  const guided = guidance.some((scale) => scale > 1)
  if (guided && promptEmbeds && !negativePromptEmbeds) {
    throw invalidArgument('negativePromptEmbeds', 'given with promptEmbeds, or guidanceScale 1', undefined)
  }
  const text = (
    texts: readonly string[],
    name: string,
    embeddings: Numbers | undefined,
    skip: number,
  ): NativeText =>
    embeddings
      ? { embeddings: embeddings.data, size: embeddings.shape[2] as number }
      : { tokens: tokenizer.encodeAll(texts, name, warnings), clipSkip: skip }
  const tile = (vaeTiling?.tileSize ?? 0) / vaeScale
  const [latentFrames, latentHeight, latentWidth] = checked.latentShape.slice(2) as [number, number, number]
  return {
    videos: checked.videos,
    prompts: text(prompts, 'prompt', promptEmbeds, clipSkip),
    // The reference skips no layers for the negative prompt.
    negativePrompts: guided ? text(negativePrompts, 'negativePrompt', negativePromptEmbeds, 0) : undefined,
    frames: checked.frames,
    latentFrames,
    latentHeight,
    latentWidth,
    program: program.code,
    guidance,
    seeds,
    latents: checked.latents?.data,
    freeU: freeU && Float64Array.of(freeU.s1, freeU.s2, freeU.b1, freeU.b2),
    video,
    tile,
    tileOverlap: Math.floor(tile * (vaeTiling?.overlap ?? 0)),
    window: window?.frames ?? 0,
    windowOverlap: window?.overlap ?? 0,
    featureCache: checked.featureCache,
    allowNonFinite: checked.allowNonFinite,
    latentsEvery: checked.latentsEvery,
  }
}
