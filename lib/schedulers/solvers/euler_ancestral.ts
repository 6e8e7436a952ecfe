import { choice, flag } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { inputScale, predictedExplodingSample } from '../prediction.js'
import { type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run } from '../scheduler.js'
import { spacedTimesteps, spacingOptions } from '../spacing.js'
import { ancestralStep, writeExplodingStart } from './euler.js'

const options = {
  ...noiseScheduleOptions(),
  ...spacingOptions('linspace'),
  prediction_type: option(choice(['epsilon', 'v_prediction']), 'epsilon'),
  rescale_betas_zero_snr: option(flag, false),
}

export type EulerAncestralDiscreteConfig = Values<typeof options>

/** Euler's method with ancestral noise: `sample_euler_ancestral` of Crowson's k-diffusion. */
export class EulerAncestralDiscreteScheduler extends ConfiguredScheduler<typeof options> {
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<EulerAncestralDiscreteConfig> = {}, carried: Carried = {}) {
    super('EulerAncestralDiscreteScheduler', options, given, carried)
    this.#schedule = new NoiseSchedule(this.settings, { finiteTerminal: true })
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const { timestep_spacing, steps_offset } = config
    const schedule = this.#schedule
    const timesteps = spacedTimesteps(timestep_spacing, schedule.length, run.steps, steps_offset).map(
      Math.fround,
    )
    const sigmas = [...timesteps.map((timestep) => Math.fround(schedule.sigmaAt(timestep))), 0]
    const denoised = builder.register()
    const noise = builder.register()
    writeExplodingStart(builder, run, sigmas, timestep_spacing)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const sigma = sigmas[i] as number
      const { up, down } = ancestralStep(sigma, sigmas[i + 1] as number)
      builder.call(timestep, inputScale(sigma))
      builder.combine(denoised, predictedExplodingSample(config.prediction_type, sigma))
      builder.noise(noise).combine(SAMPLE, [
        [SAMPLE, down / sigma],
        [denoised, 1 - down / sigma],
        [noise, up],
      ])
    })
  }
}
