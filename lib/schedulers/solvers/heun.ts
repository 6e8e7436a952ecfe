import { choice } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { clippingOptions, inputScale, limitSample, predictedExplodingSample } from '../prediction.js'
import { type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run } from '../scheduler.js'
import { checkSigmaSpacing, explodingSteps, sigmaSpacingOptions, spacingOptions } from '../spacing.js'
import { writeExplodingStart } from './euler.js'

const options = {
  ...noiseScheduleOptions({ start: 0.00085, end: 0.012, schedule: 'linear' }, ['exp']),
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  ...clippingOptions(false),
  prediction_type: option(choice(['epsilon', 'sample', 'v_prediction']), 'epsilon'),
}

export type HeunDiscreteConfig = Values<typeof options>

/**
 * Heun's method in σ: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 1. Two calls per step, except one
 * for the last step, which ends at σ = 0.
 */
export class HeunDiscreteScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['timesteps'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<HeunDiscreteConfig> = {}, carried: Carried = {}) {
    super('HeunDiscreteScheduler', options, given, carried)
    checkSigmaSpacing(this.settings)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const { timesteps, sigmas } = explodingSteps(config, this.#schedule, run)
    const denoised = builder.register()
    const slope = builder.register()
    const start = builder.register()
    const call = (timestep: number, sigma: number) => {
      builder.call(timestep, inputScale(sigma))
      builder.combine(denoised, predictedExplodingSample(config.prediction_type, sigma))
      limitSample(builder, denoised, config)
    }

    writeExplodingStart(builder, run, sigmas, config.timestep_spacing)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const sigma = sigmas[i] as number
      const next = sigmas[i + 1] as number
      call(timestep, sigma)
      builder.combine(slope, [
        [SAMPLE, 1 / sigma],
        [denoised, -1 / sigma],
      ])
      builder.combine(start, [[SAMPLE, 1]])
      builder.combine(SAMPLE, [
        [start, 1],
        [slope, next - sigma],
      ])
      if (next === 0) return
      call(timesteps[i + 1] as number, next)
      builder.combine(SAMPLE, [
        [start, 1],
        [slope, (next - sigma) / 2],
        [SAMPLE, (next - sigma) / 2 / next],
        [denoised, -(next - sigma) / 2 / next],
      ])
    })
  }
}
