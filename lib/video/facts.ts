import type { Tensor } from '../tensor.js'

/**
 * The settings of a video besides its prompt, seed, steps and guidance. They have the names of `generate`'s options.
 * Options that were off are omitted. Files are given by their base name, without the folder.
 */
export interface VideoSettings {
  readonly frames: number
  readonly width: number
  readonly height: number
  /** The config from which `schedulerFrom` and `fromConfig` make the scheduler: all values that are not its class's defaults. */
  readonly schedulerConfig?: Readonly<Record<string, unknown>> | undefined
  readonly eta?: number | undefined
  readonly clipSkip?: number | undefined
  readonly timesteps?: readonly number[] | undefined
  readonly sigmas?: readonly number[] | undefined
  readonly vaeTiling?: { readonly tileSize: number; readonly overlap: number } | undefined
  readonly window?: { readonly frames: number; readonly overlap: number } | undefined
  readonly freeU?:
    | { readonly s1: number; readonly s2: number; readonly b1: number; readonly b2: number }
    | undefined
  readonly guidanceInterval?: readonly [number, number] | undefined
  readonly featureCache?: number | undefined
  readonly loras?: readonly { readonly file: string; readonly scale: number }[] | undefined
  readonly textualInversions?: readonly { readonly file: string; readonly token: string }[] | undefined
  /** Further inputs that must be given again to repeat the video: 'video', 'latents', 'promptEmbeds' … */
  readonly inputs?: readonly string[] | undefined
  /**
   * Set if one seed was used for several videos: their number, and the index of this one, from 0. To repeat this video,
   * pass the same number of prompts, with its own at this index.
   */
  readonly batch?: { readonly videos: number; readonly index: number } | undefined
}

/** How a video was made. Everything is optional. */
export interface VideoFacts {
  /** The text that describes the video. */
  readonly prompt?: string | undefined
  /** The text that the video should not show. */
  readonly negativePrompt?: string | undefined
  /** The seed of the noise. */
  readonly seed?: number | undefined
  /** Denoising steps. */
  readonly steps?: number | undefined
  /** How much of the source video was given up. */
  readonly strength?: number | undefined
  /** The guidance scale, or one for each step. */
  readonly guidanceScale?: number | readonly number[] | undefined
  /** The scheduler's class name. */
  readonly scheduler?: string | undefined
  /** All other settings. */
  readonly settings?: VideoSettings | undefined
  /** The checkpoint. */
  readonly model?: string | undefined
  /** The version of torchreel. */
  readonly torchreel?: string | undefined
  /** The version of libtorch. */
  readonly libtorch?: string | undefined
  /** Where the networks computed: 'cpu', 'cuda:0' … */
  readonly device?: string | undefined
  /** The number type in which they computed. */
  readonly dtype?: string | undefined
  /** How many threads an operation of libtorch used on the CPU. If the number changed during the video, the lowest. */
  readonly threads?: number | undefined
  /** The name of the compiled denoiser that ran instead of the denoiser's graph. */
  readonly compiledDenoiser?: string | undefined
  /** Milliseconds by stage. */
  readonly timings?: Readonly<Record<string, number>> | undefined
  /** Denoised, (1, C, frames, height / 8, width / 8) for the published models, where they were asked for. */
  readonly latents?: Tensor | undefined
  /** What the caller should know, such as a prompt cut short. */
  readonly warnings?: readonly string[] | undefined
}

/**
 * The comment in the file: one line of JSON with the facts that are needed to make the video again. Unknown facts are
 * omitted. Undefined if none is known.
 */
export function commentOf(facts: VideoFacts): string | undefined {
  const { prompt, negativePrompt, seed, steps, strength, guidanceScale, scheduler, model, torchreel } = facts
  const { dtype, settings } = facts
  const json = JSON.stringify({
    prompt,
    negativePrompt,
    seed,
    steps,
    strength,
    guidanceScale,
    scheduler,
    settings,
    model,
    dtype,
    torchreel,
  })
  return json === '{}' ? undefined : json
}

/** The facts of a video without pixels and latents, the most important ones first. */
export function factsAsJson(facts: VideoFacts): Omit<VideoFacts, 'latents'> {
  const { prompt, negativePrompt, seed, steps, strength, guidanceScale, scheduler, settings } = facts
  const { model, torchreel, libtorch, device, dtype, threads, compiledDenoiser, timings, warnings } = facts
  return {
    prompt,
    negativePrompt,
    seed,
    steps,
    guidanceScale,
    scheduler,
    ...(strength === undefined ? {} : { strength }),
    ...(settings === undefined ? {} : { settings }),
    model,
    torchreel,
    libtorch,
    device,
    dtype,
    threads,
    compiledDenoiser,
    timings,
    warnings,
  }
}
