import { choice, flag, nullable, number } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { linspace } from '../numeric.js'
import { inputScale, predictedExplodingSample } from '../prediction.js'
import { type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import {
  checkSigmaSpacing,
  type Spacing,
  sigmaSpacing,
  sigmaSpacingOptions,
  spacedTimesteps,
  spacingOptions,
} from '../spacing.js'

const options = {
  ...noiseScheduleOptions(),
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  prediction_type: option(
    choice(['epsilon', 'sample', 'v_prediction'], { original_sample: 'sample' }),
    'epsilon',
  ),
  interpolation_type: option(choice(['linear', 'log_linear']), 'linear'),
  sigma_min: option(nullable(number(0)), null),
  sigma_max: option(nullable(number(0)), null),
  timestep_type: option(choice(['discrete', 'continuous']), 'discrete'),
  rescale_betas_zero_snr: option(flag, false),
  final_sigmas_type: option(choice(['zero', 'sigma_min']), 'zero'),
}

export type EulerDiscreteConfig = Values<typeof options>

/** Euler's method in σ: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2 without churn. */
export class EulerDiscreteScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['timesteps', 'sigmas'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<EulerDiscreteConfig> = {}, carried: Carried = {}) {
    super('EulerDiscreteScheduler', options, given, carried)
    checkSigmaSpacing(this.settings)
    this.#schedule = new NoiseSchedule(this.settings, { finiteTerminal: true })
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const { timesteps, sigmas } = this.#sigmas(run)
    const denoised = builder.register()
    writeExplodingStart(builder, run, sigmas, config.timestep_spacing)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const sigma = sigmas[i] as number
      const next = sigmas[i + 1] as number
      builder.call(timestep, inputScale(sigma))
      builder.combine(denoised, predictedExplodingSample(config.prediction_type, sigma))
      builder.combine(SAMPLE, [
        [SAMPLE, next / sigma],
        [denoised, 1 - next / sigma],
      ])
    })
  }

  #sigmas(run: Run): { timesteps: number[]; sigmas: number[] } {
    const config = this.settings
    const schedule = this.#schedule
    const { steps } = run
    const continuous = config.timestep_type === 'continuous' && config.prediction_type === 'v_prediction'
    if (run.timesteps && continuous) {
      throw invalidArgument(
        'timesteps',
        'omitted if the config sets timestep_type "continuous"',
        run.timesteps,
      )
    }
    let timesteps = [
      ...(run.timesteps ??
        spacedTimesteps(config.timestep_spacing, schedule.length, steps, config.steps_offset)),
    ]
    // Log-linear σ include the end: such a run ends at the smallest σ, not at 0.
    let sigmas =
      config.interpolation_type === 'linear'
        ? timesteps.map((timestep) => schedule.sigmaAt(Math.fround(timestep)))
        : linspace(schedule.logSigmas.at(-1) as number, schedule.logSigmas[0] as number, steps + 1).map(
            Math.exp,
          )
    const spread = sigmaSpacing(config)
    if (spread && !run.sigmas) {
      sigmas = spread(sigmas[0] as number, sigmas.at(-1) as number, steps)
      timesteps = sigmas.map((sigma) => schedule.timestepOf(sigma))
    }
    sigmas.push(config.final_sigmas_type === 'zero' ? 0 : (schedule.sigmas[0] as number))
    if (run.sigmas) {
      sigmas = [...run.sigmas]
      timesteps = sigmas.slice(0, -1).map((sigma) => schedule.timestepOf(sigma))
    }
    sigmas = sigmas.map(Math.fround)
    if (continuous) {
      timesteps = sigmas.slice(0, -1).map((sigma) => 0.25 * Math.log(sigma))
    }
    return { timesteps: timesteps.map(Math.fround), sigmas }
  }
}

/**
 * Brings standard normal noise, or latents, to the level of the first step. "leading" spacing does not start at the
 * noisiest timestep, so its sample has variance σ² + 1: noise and picture.
 */
export function writeExplodingStart(
  builder: ProgramBuilder,
  run: Run,
  sigmas: readonly number[],
  spacing: Spacing,
): void {
  const max = Math.max(...sigmas)
  const initial = spacing === 'leading' ? Math.sqrt(max ** 2 + 1) : max
  writeStart(builder, run, { alpha: 1, sigma: sigmas[run.first] as number }, initial)
}

/** A step from σ to the next σ with fresh noise: the ODE goes down to `down`, then noise goes up again. */
export function ancestralStep(sigma: number, next: number): { up: number; down: number } {
  return { up: next * Math.sqrt(1 - (next / sigma) ** 2), down: next ** 2 / sigma }
}
