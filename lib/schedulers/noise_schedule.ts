import { choice, integer, list, nullable, number } from '../checks/kinds.js'
import { option, type Values } from '../checks/options.js'
import { invalidArgument } from '../errors.js'
import { interpolate } from './numeric.js'

/** The options of every scheduler that describe the noise which the network was trained on. */
export function noiseScheduleOptions<const S extends string = BetaSchedule>(
  defaults: { start: number; end: number; schedule: BetaSchedule } = {
    start: 1e-4,
    end: 0.02,
    schedule: 'linear',
  },
  more: readonly S[] = [],
) {
  return {
    num_train_timesteps: option(integer(2, 1_000_000), 1000),
    beta_start: option(number(0, 1), defaults.start),
    beta_end: option(number(0, 1), defaults.end),
    beta_schedule: option(
      choice<BetaSchedule | S>(['linear', 'scaled_linear', 'squaredcos_cap_v2', ...more]),
      defaults.schedule,
    ),
    trained_betas: option(nullable(list(number(0, 1))), null),
  }
}

type BetaSchedule = 'linear' | 'scaled_linear' | 'squaredcos_cap_v2'
type AnyBetaSchedule = BetaSchedule | 'exp' | 'laplace' | 'sigmoid'
type NoiseScheduleConfig = Omit<Values<ReturnType<typeof noiseScheduleOptions>>, 'beta_schedule'> & {
  readonly beta_schedule: AnyBetaSchedule
  readonly rescale_betas_zero_snr?: boolean
}

/**
 * The noise levels of the T timesteps the network was trained on. x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε, and in the
 * variance-exploding scale σ_t = √((1 − ᾱ_t) / ᾱ_t).
 *
 * The tables are computed in float32, like the reference's: the rounding of ᾱ near 1 is visible in every trajectory.
 */
export class NoiseSchedule {
  /** T. */
  readonly length: number
  /** ᾱ, (T). */
  readonly alphasCumprod: Float32Array
  /** σ, (T), rising. */
  readonly sigmas: Float32Array
  /** log σ, (T). */
  readonly logSigmas: Float32Array

  /**
   * `finiteTerminal`: with a zero terminal signal-to-noise ratio, give the last timestep ᾱ = 2⁻²⁴, so that its σ is
   * finite.
   */
  constructor(config: NoiseScheduleConfig, { finiteTerminal = false } = {}) {
    const zeroTerminal = config.rescale_betas_zero_snr ?? false
    const betas = makeBetas(config)
    this.length = betas.length
    this.alphasCumprod = cumulativeAlphas(zeroTerminal ? rescaleZeroTerminal(betas) : betas)
    if (zeroTerminal && finiteTerminal) this.alphasCumprod[this.length - 1] = 2 ** -24
    this.sigmas = this.alphasCumprod.map((alpha) => Math.sqrt(Math.fround(Math.fround(1 - alpha) / alpha)))
    this.logSigmas = this.sigmas.map(Math.log)
  }

  /** ᾱ of a timestep, or `past` for a negative timestep. */
  alphaCumprodAt(timestep: number, past = 1): number {
    if (timestep < 0) return past
    const alpha = this.alphasCumprod[timestep]
    if (alpha === undefined) {
      throw invalidArgument(
        'steps',
        `small enough that no timestep plus steps_offset exceeds ${this.length - 1}`,
        timestep,
      )
    }
    return alpha
  }

  /** σ of a timestep, which may lie between two entries of the table. */
  sigmaAt(timestep: number): number {
    return interpolate(this.sigmas, timestep)
  }

  /** The timestep of a σ, interpolated linearly in log σ between two entries of the table. */
  timestepOf(sigma: number): number {
    const logSigma = Math.log(Math.max(sigma, 1e-10))
    let low = -1
    let high = this.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((this.logSigmas[middle] as number) <= logSigma) low = middle
      else high = middle
    }
    low = Math.min(Math.max(low, 0), this.length - 2)
    const from = this.logSigmas[low] as number
    const to = this.logSigmas[low + 1] as number
    const weight = Math.min(Math.max((from - logSigma) / (from - to), 0), 1)
    return (1 - weight) * low + weight * (low + 1)
  }
}

/** β, (T). */
function makeBetas(config: NoiseScheduleConfig): Float32Array {
  const { num_train_timesteps: count, beta_start: start, beta_end: end, trained_betas: trained } = config
  if (trained !== null) {
    if (trained.length !== count) {
      throw invalidArgument('trained_betas', `null or ${count} numbers (num_train_timesteps)`, trained)
    }
    return Float32Array.from(trained)
  }
  switch (config.beta_schedule) {
    case 'linear':
      return float32Linspace(start, end, count)
    case 'scaled_linear':
      return float32Linspace(Math.sqrt(start), Math.sqrt(end), count).map((root) => root * root)
    case 'sigmoid': {
      const range = Math.fround(end - start)
      return float32Linspace(-6, 6, count).map(
        (x) => Math.fround(Math.fround(1 / (1 + Math.exp(-x))) * range) + Math.fround(start),
      )
    }
    case 'squaredcos_cap_v2':
      return betasFrom((t) => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2, count)
    case 'exp':
      return betasFrom((t) => Math.exp(t * -12), count)
    case 'laplace':
      return betasFrom((t) => {
        const logSignal = -0.5 * (t > 0.5 ? -1 : 1) * Math.log(1 - 2 * Math.abs(0.5 - t) + 1e-6)
        const signal = Math.exp(logSignal)
        return Math.sqrt(signal / (1 + signal))
      }, count)
  }
}

/** β for a continuous ᾱ(t), t in [0, 1]. At most 0.999 each. */
function betasFrom(alphaBar: (t: number) => number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / count) / alphaBar(i / count), 0.999),
  )
}

/** In float32, computed from both ends, with one rounding per value (fused multiply-add). */
function float32Linspace(start: number, end: number, count: number): Float32Array {
  const first = Math.fround(start)
  const last = Math.fround(end)
  const step = Math.fround(Math.fround(last - first) / (count - 1))
  const half = count >> 1
  return Float32Array.from({ length: count }, (_, i) =>
    i < half ? first + step * i : last - step * (count - 1 - i),
  )
}

/** ᾱ_t = Π (1 − β): products in float64, each rounded when stored. */
function cumulativeAlphas(betas: Float32Array): Float32Array {
  let product = 1
  return betas.map((beta) => {
    product *= Math.fround(1 - beta)
    return product
  })
}

/** Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1. */
function rescaleZeroTerminal(betas: Float32Array): Float32Array {
  const roots = cumulativeAlphas(betas).map(Math.sqrt)
  const first = roots[0] as number
  const last = roots[roots.length - 1] as number
  const scale = Math.fround(first / Math.fround(first - last))
  const alphasCumprod = roots.map((root) => Math.fround(Math.fround(root - last) * scale) ** 2)
  return alphasCumprod.map(
    (alpha, i) => 1 - Math.fround(alpha / (i === 0 ? 1 : (alphasCumprod[i - 1] as number))),
  )
}
