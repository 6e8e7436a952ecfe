import { choice, flag } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { roundHalfEven } from '../numeric.js'
import {
  clippingOptions,
  cumulativeLevel,
  limitSample,
  predictedNoise,
  predictedSample,
  thresholdingOptions,
} from '../prediction.js'
import { OUTPUT, type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { spacedTimesteps, spacingOptions } from '../spacing.js'

const options = {
  ...noiseScheduleOptions(),
  ...clippingOptions(true),
  ...thresholdingOptions,
  ...spacingOptions('leading'),
  set_alpha_to_one: option(flag, true),
  prediction_type: option(choice(['epsilon', 'sample', 'v_prediction']), 'epsilon'),
  rescale_betas_zero_snr: option(flag, false),
}

export type DDIMConfig = Values<typeof options>

/**
 * Denoising diffusion implicit models: Song et al. 2020, https://arxiv.org/abs/2010.02502, equations 12 and 16.
 * ModelScope's checkpoints name this scheduler.
 */
export class DDIMScheduler extends ConfiguredScheduler<typeof options> {
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<DDIMConfig> = {}, carried: Carried = {}) {
    super('DDIMScheduler', options, given, carried)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const { steps, eta } = run
    const config = this.settings
    const schedule = this.#schedule
    const finalAlpha = config.set_alpha_to_one ? 1 : schedule.alphaCumprodAt(0)
    const stride = Math.floor(schedule.length / steps)
    const denoised = builder.register()
    const epsilon = config.prediction_type === 'epsilon' ? OUTPUT : builder.register()
    const noise = eta > 0 ? builder.register() : undefined

    const spaced = spacedTimesteps(config.timestep_spacing, schedule.length, steps, config.steps_offset)
    const timesteps = spaced.map(roundHalfEven)
    const start = schedule.alphaCumprodAt(timesteps[run.first] as number)
    writeStart(builder, run, cumulativeLevel(start))
    for (const timestep of timesteps.slice(run.first)) {
      const alpha = schedule.alphaCumprodAt(timestep)
      const alphaNext = schedule.alphaCumprodAt(timestep - stride, finalAlpha)
      const level = cumulativeLevel(alpha)
      const variance = ((1 - alphaNext) / (1 - alpha)) * (1 - alpha / alphaNext)
      const deviation = eta === 0 ? 0 : eta * Math.sqrt(variance)

      builder.call(timestep)
      builder.combine(denoised, predictedSample(config.prediction_type, level))
      if (epsilon !== OUTPUT) builder.combine(epsilon, predictedNoise(config.prediction_type, level))
      limitSample(builder, denoised, config)
      builder.combine(SAMPLE, [
        [denoised, Math.sqrt(alphaNext)],
        [epsilon, Math.sqrt(1 - alphaNext - deviation ** 2)],
      ])
      if (noise !== undefined) {
        builder.noise(noise).combine(SAMPLE, [
          [SAMPLE, 1],
          [noise, deviation],
        ])
      }
    }
  }
}
