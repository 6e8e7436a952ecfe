import type { NativeRequest, NativeText } from '../addon/interface.js'
import type { DenoisingProgram } from '../schedulers/program.js'
import type { Tensor } from '../tensor.js'
import type { Tokenizer } from '../text/tokenizer.js'
import { isGuided } from './guidance.js'
import type { PreparedCall } from './preparation.js'

/** What a request needs beside its call. */
interface RequestContext {
  readonly program: DenoisingProgram
  /** A scale for each call of the program. */
  readonly guidance: Float64Array
  readonly seeds: readonly number[]
  readonly tokenizer: Tokenizer
  readonly vaeScale: number
  /** Gets a line for each prompt that was cut short. */
  readonly warnings: string[]
}

/** A call as the core takes it: token ids or embeddings, sizes in latents. */
export function buildRequest({ call, source }: PreparedCall, context: RequestContext): NativeRequest {
  const { program, guidance, seeds, tokenizer, vaeScale, warnings } = context
  const { prompts, negativePrompts, promptEmbeds, negativePromptEmbeds, vaeTiling, window, freeU } = call
  const encode = (
    texts: readonly string[],
    name: string,
    embeddings: Tensor | undefined,
    clipSkip: number,
  ): NativeText =>
    embeddings
      ? { embeddings: embeddings.data, size: embeddings.shape[2] as number }
      : { ...tokenizer.encodeAll(texts, name, warnings), clipSkip }
  const tile = (vaeTiling?.tileSize ?? 0) / vaeScale
  const [latentFrames, latentHeight, latentWidth] = call.latentShape.slice(2) as [number, number, number]
  return {
    videos: call.videos,
    prompts: encode(prompts, 'prompt', promptEmbeds, call.clipSkip),
    // The reference skips no layers for the negative prompt.
    negativePrompts: isGuided(guidance)
      ? encode(negativePrompts, 'negativePrompt', negativePromptEmbeds, 0)
      : undefined,
    frames: call.frames,
    latentFrames,
    latentHeight,
    latentWidth,
    program: program.code,
    guidance,
    seeds: [...seeds],
    latents: call.latents?.data,
    freeU: freeU && Float64Array.of(freeU.s1, freeU.s2, freeU.b1, freeU.b2),
    video: source,
    tile,
    tileOverlap: Math.floor(tile * (vaeTiling?.overlap ?? 0)),
    window: window?.frames ?? 0,
    windowOverlap: window?.overlap ?? 0,
    featureCache: call.featureCache,
    allowNonFinite: call.allowNonFinite,
    latentsEvery: call.latentsEvery,
  }
}
