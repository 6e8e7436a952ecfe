import type { Numbers } from '../option_checks.js'

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
  /** Milliseconds by stage. */
  readonly timings?: Readonly<Record<string, number>> | undefined
  /** Denoised, (1, C, frames, height / 8, width / 8) for the published models, where they were asked for. */
  readonly latents?: Numbers | undefined
  /** What the caller should know, such as a prompt cut short. */
  readonly warnings?: readonly string[] | undefined
}

/**
 * What stands in the file as its comment: one line of JSON with the facts that make the video again. A fact that is not
 * known is left out; undefined if none is.
 */
export function commentOf(facts: VideoFacts): string | undefined {
  const { prompt, negativePrompt, seed, steps, strength, guidanceScale, scheduler, model, torchreel } = facts
  const json = JSON.stringify({
    prompt,
    negativePrompt,
    seed,
    steps,
    strength,
    guidanceScale,
    scheduler,
    model,
    torchreel,
  })
  return json === '{}' ? undefined : json
}

/** The facts of a video that are not its pixels or latents, in the order in which a reader wants them. */
export function factsAsJson(facts: VideoFacts): Omit<VideoFacts, 'latents'> {
  const { prompt, negativePrompt, seed, steps, strength, guidanceScale, scheduler, model } = facts
  const { torchreel, libtorch, device, dtype, timings, warnings } = facts
  return {
    ...{ prompt, negativePrompt, seed, steps, guidanceScale, scheduler, model },
    ...(strength === undefined ? {} : { strength }),
    ...{ torchreel, libtorch, device, dtype, timings, warnings },
  }
}
