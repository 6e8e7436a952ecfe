import { checkCall } from '../call/check_call.js'
import { type CallModel, fitCall, sizeCall } from '../call/fit_call.js'
import { readCheckpoint } from '../checkpoint/checkpoint.js'
import { checkOptions } from '../checks/options.js'
import { families } from '../families/families.js'
import type { Family } from '../families/family.js'
import type { GenerateOptions } from './call.js'
import { type Limits, limitOptions } from './limits.js'
import type { PipelineOptions } from './pipeline.js'

/** What a call needs to know of a model to be checked; JSON. */
export interface ModelFacts extends Omit<CallModel, 'family'> {
  /** The name of its family. */
  readonly family: string
  /** The options that it cannot honour, and why, as the end of a sentence. */
  readonly refusedOptions: Readonly<Record<string, string>>
}

/** A call with its model's defaults. */
export interface FittedOptions {
  readonly steps: number
  readonly guidanceScale: number | readonly number[]
  /** Only with a source video. */
  readonly strength: number | undefined
  readonly frames: number
  readonly width: number
  readonly height: number
  readonly fps: number
}

/**
 * Reads the configs of a model's folder, not its weights, and needs no libtorch.
 *
 * @throws TorchreelError as `TextToVideoPipeline.fromPretrained`
 */
export async function readModelFacts(
  folder: string,
  options: Pick<PipelineOptions, 'variant' | 'trustGraph' | 'trustLinks'> = {},
): Promise<ModelFacts> {
  const { properties } = await readCheckpoint(folder, options)
  const { family, defaults, size, sizeMultiple, frameMultiple, vaeScale, tileSize } = properties
  const { latentChannels, textLayers, textSize } = properties
  const { name, refusedOptions } = family
  return {
    ...{ family: name, refusedOptions, defaults, size, sizeMultiple, frameMultiple, vaeScale, tileSize },
    ...{ latentChannels, textLayers, textSize },
  }
}

/**
 * Checks a call as `pipeline.generate` does before it begins, and gives its values with the model's defaults. The sizes of
 * a source video are not known here: if there is one, they are those that the call names, else the model's.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`
 */
export function checkCallFor(
  { family: name, ...properties }: ModelFacts,
  prompt: string,
  options: GenerateOptions,
  limits: Partial<Limits> = {},
): FittedOptions {
  const family = families.find((one) => one.name === name) as Family
  const checkedLimits: Limits = checkOptions(limits, limitOptions)
  const model = { ...properties, family }
  const call = fitCall(checkCall(prompt, options, checkedLimits), model)
  const { steps, guidanceScale, strength, frames, width, height, fps } = sizeCall(call, model, checkedLimits)
  return { steps, guidanceScale, strength, frames, width, height, fps }
}
