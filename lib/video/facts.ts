import type { Tensor } from '../tensor.js'

/**
 * What a video was made with beside its prompt, seed, steps and guidance, under the names of `generate`'s options; what
 * was left at "off" or at nothing is not there. Files are told by their names, not by where they lie.
 */
export interface VideoSettings {
  readonly frames: number
  readonly width: number
  readonly height: number
  /** What `schedulerFrom` and `fromConfig` make the scheduler from: all that is not its class's default. */
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
  /** What was given beside all this, and must be given again: 'video', 'latents', 'promptEmbeds' … */
  readonly inputs?: readonly string[] | undefined
  /**
   * Where one seed drew for several videos: how many, and which of them this is, from 0. The same number of prompts, with
   * this one in its place, makes it again.
   */
  readonly batch?: { readonly videos: number; readonly index: number } | undefined
}

/** What is known of how a video was made. All of it is optional. */
export interface VideoFacts {
  /** The text that the video shows. */
  readonly prompt?: string | undefined
  /** The text that it does not show. */
  readonly negativePrompt?: string | undefined
  /** The seed of the noise. */
  readonly seed?: number | undefined
  /** Denoising steps. */
  readonly steps?: number | undefined
  /** How much of a video that was started from was given up. */
  readonly strength?: number | undefined
  /** How strongly the prompt guided, or how strongly in each step. */
  readonly guidanceScale?: number | readonly number[] | undefined
  /** The class of the scheduler. */
  readonly scheduler?: string | undefined
  /** All else that it was made with. */
  readonly settings?: VideoSettings | undefined
  /** The checkpoint. */
  readonly model?: string | undefined
  /** The version of torchreel. */
  readonly torchreel?: string | undefined
  /** The version of libtorch. */
  readonly libtorch?: string | undefined
  /** Where the networks computed: 'cpu', 'cuda:0' … */
  readonly device?: string | undefined
  /** What they computed in. */
  readonly dtype?: string | undefined
  /** The package of machine code, by its name, that ran in place of the UNet's graph. */
  readonly compiledDenoiser?: string | undefined
  /** Milliseconds by stage. */
  readonly timings?: Readonly<Record<string, number>> | undefined
  /** Denoised, (1, C, frames, height / 8, width / 8) for the published models, where they were asked for. */
  readonly latents?: Tensor | undefined
  /** What the caller should know, such as a prompt cut short. */
  readonly warnings?: readonly string[] | undefined
}

/**
 * What stands in the file as its comment: one line of JSON with the facts that make the video again. A fact that is not
 * known is left out; undefined if none is.
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

/** The facts of a video that are not its pixels or latents, in the order in which a reader wants them. */
export function factsAsJson(facts: VideoFacts): Omit<VideoFacts, 'latents'> {
  const { prompt, negativePrompt, seed, steps, strength, guidanceScale, scheduler, settings } = facts
  const { model, torchreel, libtorch, device, dtype, compiledDenoiser, timings, warnings } = facts
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
    compiledDenoiser,
    timings,
    warnings,
  }
}
