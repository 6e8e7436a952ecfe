import { flag, number } from '../checks/kinds.js'
import { option } from '../checks/options.js'
import { invalidArgument } from '../errors.js'
import { OUTPUT, type ProgramBuilder, SAMPLE, type Term } from './program.js'

/** The quantity that the network was trained to predict. */
export type PredictionType = 'epsilon' | 'sample' | 'v_prediction' | 'flow_prediction'

/** A noise level: x = alpha · x_0 + sigma · ε. */
export interface NoiseLevel {
  readonly alpha: number
  readonly sigma: number
  /** Half the log signal-to-noise ratio, log(alpha / sigma). */
  readonly lambda: number
  /** The σ of the solver's own scale: sigma / alpha, or the flow's σ. */
  readonly raw: number
}

/** The variance-preserving level of σ = sigma / alpha. */
export function preservingLevel(raw: number): NoiseLevel {
  const alpha = 1 / Math.sqrt(raw ** 2 + 1)
  return { alpha, sigma: raw * alpha, lambda: -Math.log(raw), raw }
}

/** The level of a flow's σ: x = (1 − σ) x_0 + σ ε. */
export function flowLevel(raw: number): NoiseLevel {
  return { alpha: 1 - raw, sigma: raw, lambda: Math.log(1 - raw) - Math.log(raw), raw }
}

/** The variance-preserving level of ᾱ. */
export function cumulativeLevel(alphaCumprod: number): NoiseLevel {
  const alpha = Math.sqrt(alphaCumprod)
  const sigma = Math.sqrt(1 - alphaCumprod)
  return { alpha, sigma, lambda: Math.log(alpha / sigma), raw: sigma / alpha }
}

/**
 * The terms of x_0, from the sample and the network's output.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` if the network predicts ε and the sample is pure noise
 */
export function predictedSample(type: PredictionType, { alpha, sigma, raw }: NoiseLevel): readonly Term[] {
  if (alpha === 0 && type === 'epsilon') {
    const expected = 'false with prediction_type "epsilon" if a step starts at the last timestep'
    throw invalidArgument('rescale_betas_zero_snr', expected, true)
  }
  switch (type) {
    case 'epsilon':
      return terms(1 / alpha, -sigma / alpha)
    case 'sample':
      return terms(0, 1)
    case 'v_prediction':
      return terms(alpha, -sigma)
    case 'flow_prediction':
      return terms(1, -raw)
  }
}

/** The terms of ε, from the sample and the network's output. */
export function predictedNoise(type: PredictionType, { alpha, sigma, raw }: NoiseLevel): readonly Term[] {
  switch (type) {
    case 'epsilon':
      return terms(0, 1)
    case 'sample':
      return terms(1 / sigma, -alpha / sigma)
    case 'v_prediction':
      return terms(sigma, alpha)
    case 'flow_prediction':
      return terms((1 - alpha) / sigma, (alpha * raw) / sigma)
  }
}

/** The terms of x_0 for a sample in the variance-exploding scale, x = x_0 + σ ε. The network sees x / √(σ² + 1). */
export function predictedExplodingSample(type: PredictionType, sigma: number): readonly Term[] {
  const alpha = inputScale(sigma)
  switch (type) {
    case 'v_prediction':
      return terms(alpha ** 2, -sigma * alpha)
    case 'sample':
      return terms(0, 1)
    default:
      return terms(1, -sigma)
  }
}

/** The factor of the network's input in the variance-exploding scale, 1 / √(σ² + 1). */
export function inputScale(sigma: number): number {
  return 1 / Math.sqrt(sigma ** 2 + 1)
}

function terms(sample: number, output: number): readonly Term[] {
  return [
    [SAMPLE, sample],
    [OUTPUT, output],
  ]
}

export const thresholdingOptions = {
  thresholding: option(flag, false),
  dynamic_thresholding_ratio: option(number(0, 1), 0.995),
  sample_max_value: option(number(0), 1),
}

export const clippingOptions = (clip: boolean) => ({
  clip_sample: option(flag, clip),
  clip_sample_range: option(number(0), 1),
})

interface LimitConfig {
  readonly thresholding?: boolean
  readonly dynamic_thresholding_ratio?: number
  readonly sample_max_value?: number
  readonly clip_sample?: boolean
  readonly clip_sample_range?: number
}

/** Limits a predicted x_0 by dynamic thresholding, by clipping, or not at all, depending on the config. */
export function limitSample(builder: ProgramBuilder, target: number, config: LimitConfig): void {
  if (config.thresholding) {
    builder.threshold(target, config.dynamic_thresholding_ratio ?? 0.995, config.sample_max_value ?? 1)
  } else if (config.clip_sample) {
    builder.clamp(target, config.clip_sample_range ?? 1)
  }
}
