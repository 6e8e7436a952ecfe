import { invalidArgument } from '../errors.js'
import {
  limitSample,
  type NoiseLevel,
  type PredictionType,
  predictedNoise,
  predictedSample,
} from './prediction.js'
import { type ProgramBuilder, SAMPLE } from './program.js'

/**
 * The four forms of DPM-Solver: the ODE in terms of ε (dpmsolver, Lu et al. 2022) or x_0 (dpmsolver++, Lu et al. 2022b),
 * and the SDE in the same terms.
 */
export type Algorithm = 'dpmsolver' | 'dpmsolver++' | 'sde-dpmsolver' | 'sde-dpmsolver++'

/** True: the algorithm integrates x_0. False: it integrates ε. */
function integratesSample(algorithm: Algorithm): boolean {
  return algorithm.endsWith('++')
}

/** x_t = sample · x_s + d0 · D0 + d1 · D1 + d2 · D2 + noise · z. Dn is the n-th derivative of x_0 or ε by λ, times hⁿ. */
export interface SolverCoefficients {
  readonly sample: number
  readonly d0: number
  /** For D1 in the second-order midpoint form. */
  readonly d1Midpoint: number
  /** For D1 in the second-order Heun form and in the third order. */
  readonly d1: number
  readonly d2: number
  readonly noise: number
}

/** The exact integrals of the exponentially weighted Taylor terms over a step h = λ_t − λ_s. */
export function solverCoefficients(
  algorithm: Algorithm,
  from: NoiseLevel,
  to: NoiseLevel,
): SolverCoefficients {
  const h = to.lambda - from.lambda
  switch (algorithm) {
    case 'dpmsolver++': {
      const e = Math.expm1(-h)
      return {
        sample: to.sigma / from.sigma,
        d0: -to.alpha * e,
        d1Midpoint: -0.5 * to.alpha * e,
        d1: to.alpha * (e / h + 1),
        d2: -to.alpha * ((e + h) / h ** 2 - 0.5),
        noise: 0,
      }
    }
    case 'dpmsolver': {
      const e = Math.expm1(h)
      return {
        sample: to.alpha / from.alpha,
        d0: -to.sigma * e,
        d1Midpoint: -0.5 * to.sigma * e,
        d1: -to.sigma * (e / h - 1),
        d2: -to.sigma * ((e - h) / h ** 2 - 0.5),
        noise: 0,
      }
    }
    case 'sde-dpmsolver++': {
      const e = -Math.expm1(-2 * h)
      return {
        sample: (to.sigma / from.sigma) * Math.exp(-h),
        d0: to.alpha * e,
        d1Midpoint: 0.5 * to.alpha * e,
        d1: to.alpha * (e / (-2 * h) + 1),
        d2: to.alpha * ((e - 2 * h) / (2 * h) ** 2 - 0.5),
        noise: to.sigma * Math.sqrt(e),
      }
    }
    case 'sde-dpmsolver': {
      const e = Math.expm1(h)
      return {
        sample: to.alpha / from.alpha,
        d0: -2 * to.sigma * e,
        d1Midpoint: -to.sigma * e,
        d1: -2 * to.sigma * (e / h - 1),
        d2: 0,
        noise: to.sigma * Math.sqrt(Math.expm1(2 * h)),
      }
    }
  }
}

interface ConversionConfig {
  readonly algorithm_type: Algorithm
  readonly prediction_type: PredictionType
  readonly thresholding: boolean
  readonly dynamic_thresholding_ratio: number
  readonly sample_max_value: number
}

/** target ← x_0 or ε (the one that the algorithm integrates), from the sample and the network's output. */
export function writeConvertedOutput(
  builder: ProgramBuilder,
  target: number,
  config: ConversionConfig,
  level: NoiseLevel,
): void {
  const { algorithm_type, prediction_type, thresholding } = config
  if (integratesSample(algorithm_type) || thresholding) {
    builder.combine(target, predictedSample(prediction_type, level))
    limitSample(builder, target, config)
    if (integratesSample(algorithm_type)) return
    builder.combine(target, [
      [SAMPLE, 1 / level.sigma],
      [target, -level.alpha / level.sigma],
    ])
  } else {
    builder.combine(target, predictedNoise(prediction_type, level))
  }
}

interface AlgorithmConfig {
  readonly algorithm_type: string
  readonly prediction_type: string
  readonly final_sigmas_type: string
}

/** Rejects options that the forms which integrate ε do not support. */
export function checkAlgorithm({
  algorithm_type,
  prediction_type,
  final_sigmas_type,
}: AlgorithmConfig): void {
  if (algorithm_type.endsWith('++')) return
  const why = `with algorithm_type "${algorithm_type}"`
  if (final_sigmas_type === 'zero') throw invalidArgument('final_sigmas_type', `"sigma_min" ${why}`, 'zero')
  if (prediction_type === 'flow_prediction') {
    throw invalidArgument('prediction_type', `"epsilon", "sample" or "v_prediction" ${why}`, prediction_type)
  }
}
