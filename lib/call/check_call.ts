import { checkOptions, type Values } from '../checks/options.js'
import { conflict, invalidArgument, requires } from '../errors.js'
import { callOptions, type GenerateOptions } from '../options/call.js'
import { assertWithin, type Limits } from '../options/limits.js'
import type { CheckedPipelineOptions } from '../options/pipeline.js'
import { stepsTaken } from '../schedulers/scheduler.js'
import type { Tensor } from '../tensor.js'

type Checked = Values<typeof callOptions>

/** A call whose options are of their types, in their ranges, and go together. No model is known yet. */
export interface Call extends Omit<Checked, 'seed' | 'negativePrompt' | 'previewEvery'> {
  readonly prompts: readonly string[]
  readonly negativePrompts: readonly string[]
  readonly videos: number
  /** Undefined: the model's default. */
  readonly steps: number | undefined
  /** One for all videos, or one each; undefined: to be chosen. */
  readonly seeds: readonly number[] | undefined
  /** Calls of the network between previews; 0: none. */
  readonly latentsEvery: number
}

/**
 * Checks everything about a call that needs no model: before anything heavy.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`
 */
export function checkCall(
  prompt: string | readonly string[] | undefined,
  options: GenerateOptions,
  limits: Limits,
): Call {
  const { seed, negativePrompt, previewEvery, ...checked } = checkOptions(options, callOptions)
  const { promptEmbeds, negativePromptEmbeds, video, strength, latents, output } = checked
  const prompts = promptEmbeds ? noPrompt(prompt) : checkPrompts(prompt, limits)
  const videos = promptEmbeds?.shape[0] ?? prompts.length
  for (const text of [negativePrompt ?? ''].flat())
    assertWithin(limits.promptLength, text.length, 'negativePrompt', 'characters')

  if (strength !== undefined && video === undefined) throw requires('strength', 'video', strength)
  if (latents && video !== undefined) throw conflict('latents', 'video', latents)
  if (negativePromptEmbeds) checkNegativeEmbeds(negativePromptEmbeds, promptEmbeds)
  if (output && videos > 1) throw conflict('output', 'several prompts', output)

  const { timesteps, sigmas, frames = 1, width = 1, height = 1 } = checked
  const steps = checked.steps ?? timesteps?.length ?? (sigmas && sigmas.length - 1)
  if (steps !== undefined) checkSteps(steps, checked)
  checkPixels(videos * frames * width * height, limits)
  return {
    ...checked,
    prompts,
    negativePrompts: spread('negativePrompt', negativePrompt ?? '', prompts.length),
    videos,
    steps,
    seeds: typeof seed === 'number' ? [seed] : seed && spread('seed', seed, videos),
    latentsEvery: checked.onPreview ? previewEvery : 0,
  }
}

/**
 * Checks that a call goes with its pipeline.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function checkTogether(
  { captureGraph }: Pick<CheckedPipelineOptions, 'captureGraph'>,
  { featureCache }: Pick<Call, 'featureCache'>,
): void {
  if (captureGraph && featureCache > 1) throw conflict('featureCache', 'captureGraph', featureCache)
}

/** A prompt, or several, each no longer than it may be. */
export function checkPrompts(prompt: unknown, limits: Limits): string[] {
  if (Array.isArray(prompt)) assertWithin(limits.prompts, prompt.length, 'prompt', 'prompts')
  const prompts: unknown[] = Array.isArray(prompt) ? [...prompt] : [prompt]
  if (prompts.length === 0)
    throw invalidArgument('prompt', 'a string or a non-empty array of strings', prompt)
  return prompts.map((text) => {
    if (typeof text !== 'string') throw invalidArgument('prompt', 'a string', text)
    assertWithin(limits.promptLength, text.length, 'prompt', 'characters')
    return text
  })
}

function noPrompt(prompt: unknown): [] {
  if (prompt === undefined) return []
  throw conflict('prompt', 'promptEmbeds', prompt)
}

function checkNegativeEmbeds(negative: Tensor, embeds: Tensor | undefined): void {
  if (!embeds) throw requires('negativePromptEmbeds', 'promptEmbeds', negative)
  if (negative.shape.every((size, index) => size === embeds.shape[index])) return
  throw invalidArgument('negativePromptEmbeds', `of the shape of promptEmbeds, [${embeds.shape}]`, {
    shape: negative.shape,
  })
}

/** One value for each of `count`. */
function spread<T>(name: string, value: T | readonly T[], count: number): readonly T[] {
  if (!Array.isArray(value)) return new Array<T>(count).fill(value as T)
  if (value.length === count) return value
  throw invalidArgument(name, `one value, or a list of ${count} (one per prompt)`, value)
}

/** Refuses a list of guidance scales that has not one for each step, and a strength that leaves no step. */
export function checkSteps(
  steps: number,
  { guidanceScale: scale, strength }: Pick<Checked, 'guidanceScale' | 'strength'>,
): void {
  if (typeof scale === 'object' && scale.length !== steps)
    throw invalidArgument('guidanceScale', `a number, or a list of ${steps} (one per step)`, scale)
  if (strength !== undefined) stepsTaken(steps, strength)
}

export function checkPixels(pixels: number, limits: Limits): void {
  assertWithin(limits.pixels, pixels, 'frames', 'pixels of all videos')
}
