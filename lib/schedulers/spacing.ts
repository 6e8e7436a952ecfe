import { choice, flag, integer } from '../checks/kinds.js'
import { option } from '../checks/options.js'
import { invalidArgument } from '../errors.js'
import { symmetricBetaQuantile } from './beta_distribution.js'
import { shiftSigma } from './flow.js'
import type { NoiseSchedule } from './noise_schedule.js'
import { linspace, roundHalfEven } from './numeric.js'
import type { Run } from './scheduler.js'

/** How the steps of a run are spaced over the training timesteps: Lin et al. 2023, table 2. */
export type Spacing = 'linspace' | 'leading' | 'trailing'

export function spacingOptions(spacing: Spacing) {
  return {
    timestep_spacing: option(choice<Spacing>(['linspace', 'leading', 'trailing']), spacing),
    steps_offset: option(integer(0, 1_000_000), 0),
  }
}

/** Rules that space the σ instead of the timesteps. At most one may be on. */
export const sigmaSpacingOptions = {
  use_karras_sigmas: option(flag, false),
  use_exponential_sigmas: option(flag, false),
  use_beta_sigmas: option(flag, false),
}

/**
 * Falling timesteps over [0, total), one per step. "linspace" gives fractions; schedulers whose network needs whole
 * timesteps round them.
 */
export function spacedTimesteps(spacing: Spacing, total: number, steps: number, offset: number): number[] {
  switch (spacing) {
    case 'linspace':
      return linspace(0, total - 1, steps).reverse()
    case 'leading':
      return leading(Math.floor(total / steps), steps, 0, offset)
    case 'trailing':
      return trailing(total, total, steps)
  }
}

/**
 * Falling whole timesteps over [0, last) for solvers that add the end themselves: the grid has steps + 1 points, without
 * the last. `total` is T. `last` is less than T if the noisiest timesteps are left out.
 */
export function openTimesteps(
  spacing: Spacing,
  last: number,
  total: number,
  steps: number,
  offset: number,
): number[] {
  switch (spacing) {
    case 'linspace':
      return linspace(0, last - 1, steps + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1)
    case 'leading':
      return leading(Math.floor(last / (steps + 1)), steps, 1, offset)
    case 'trailing':
      return trailing(last, total, steps)
  }
}

function leading(stride: number, steps: number, first: number, offset: number): number[] {
  return Array.from({ length: steps }, (_, i) => (steps - 1 - i + first) * stride + offset)
}

/** Every (total / steps)-th timestep down from last − 1. Fewer than `steps` if last < total. */
function trailing(last: number, total: number, steps: number): number[] {
  const stride = last - (last - total / steps)
  const length = Math.ceil((last * steps) / total)
  return Array.from({ length }, (_, i) => roundHalfEven(last - i * stride) - 1)
}

/** Karras et al. 2022, equation 5, ρ = 7. */
function karrasSigmas(max: number, min: number, steps: number): number[] {
  const rho = 7
  const from = max ** (1 / rho)
  const to = min ** (1 / rho)
  return linspace(0, 1, steps).map((ramp) => (from + ramp * (to - from)) ** rho)
}

/** Evenly spaced in log σ. */
function exponentialSigmas(max: number, min: number, steps: number): number[] {
  return linspace(Math.log(max), Math.log(min), steps).map(Math.exp)
}

/** Lee et al. 2024, "Beta Sampling is All You Need", α = β = 0.6. */
function betaSigmas(max: number, min: number, steps: number): number[] {
  return linspace(0, 1, steps).map((ramp) => min + symmetricBetaQuantile(1 - ramp, 0.6) * (max - min))
}

/** The σ of flow matching, x = (1 − σ) x_0 + σ ε, shifted towards noise by `shift`, without the end σ = 0. */
export function flowSigmas(total: number, shift: number, steps: number): number[] {
  return linspace(1, 1 / total, steps + 1)
    .map((alpha) => 1 - alpha)
    .map((sigma) => shiftSigma(sigma, shift))
    .reverse()
    .slice(0, -1)
}

interface SigmaSpacingConfig {
  readonly use_karras_sigmas: boolean
  readonly use_exponential_sigmas: boolean
  readonly use_beta_sigmas: boolean
  /** Limits that replace a scheduler's own. Some classes have them as options, others only read them from another's config. */
  readonly sigma_min?: unknown
  readonly sigma_max?: unknown
}

/** The rule by which a config spaces its σ from max to min, or null if its timesteps determine them. */
export function sigmaSpacing(
  config: SigmaSpacingConfig,
): ((max: number, min: number, steps: number) => number[]) | null {
  const { sigma_max, sigma_min } = config
  const rule = config.use_karras_sigmas
    ? karrasSigmas
    : config.use_exponential_sigmas
      ? exponentialSigmas
      : config.use_beta_sigmas
        ? betaSigmas
        : null
  if (rule === null) return null
  return (max, min, steps) =>
    rule(
      typeof sigma_max === 'number' ? sigma_max : max,
      typeof sigma_min === 'number' ? sigma_min : min,
      steps,
    )
}

/** Rejects a config with more than one rule for the σ. */
export function checkSigmaSpacing(config: SigmaSpacingConfig): void {
  const chosen = Object.keys(sigmaSpacingOptions).filter(
    (key) => config[key as keyof SigmaSpacingConfig] === true,
  )
  if (chosen.length > 1) throw invalidArgument(chosen[1] as string, `false if ${chosen[0]} is true`, true)
}

/**
 * For solvers in the variance-exploding scale: the fractional timesteps of the calls, and σ at each of them with a 0 added at
 * the end.
 */
export function explodingSteps(
  config: SigmaSpacingConfig & { readonly timestep_spacing: Spacing; readonly steps_offset: number },
  schedule: NoiseSchedule,
  { steps, timesteps: own }: Run,
): { timesteps: number[]; sigmas: number[] } {
  const { timestep_spacing, steps_offset } = config
  let timesteps = (own ?? spacedTimesteps(timestep_spacing, schedule.length, steps, steps_offset)).map(
    Math.fround,
  )
  let sigmas = timesteps.map((timestep) => schedule.sigmaAt(timestep))
  const spread = sigmaSpacing(config)
  if (spread) {
    sigmas = spread(sigmas[0] as number, sigmas.at(-1) as number, steps)
    timesteps = sigmas.map((sigma) => Math.fround(schedule.timestepOf(sigma)))
  }
  return { timesteps, sigmas: [...sigmas.map(Math.fround), 0] }
}
