import type { Values } from '../../checks/options.js'
import { NoiseSchedule } from '../noise_schedule.js'
import { cumulativeLevel, predictedNoise, predictedSample } from '../prediction.js'
import { OUTPUT, type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { distilledOptions, distilledTimesteps } from './lcm.js'

export type TCDConfig = Values<typeof distilledOptions>

/**
 * Strategic stochastic sampling of trajectory consistency models: Zheng et al. 2024, https://arxiv.org/abs/2402.19159,
 * algorithm 4. `eta` is the paper's γ. It has the options of {@link LCMScheduler}, but does not limit the sample.
 */
export class TCDScheduler extends ConfiguredScheduler<typeof distilledOptions> {
  protected override readonly takes = ['timesteps'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<TCDConfig> = {}, carried: Carried = {}) {
    super('TCDScheduler', distilledOptions, given, carried)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const { eta } = run
    const config = this.settings
    const schedule = this.#schedule
    const timesteps =
      run.timesteps ?? distilledTimesteps(schedule.length, config.original_inference_steps, run.steps)
    const denoised = builder.register()
    const epsilon = config.prediction_type === 'epsilon' ? OUTPUT : builder.register()
    const noise = eta > 0 ? builder.register() : undefined
    const start = schedule.alphaCumprodAt(timesteps[run.first] as number)
    writeStart(builder, run, cumulativeLevel(start))
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const next = timesteps[i + 1] ?? 0
      const level = cumulativeLevel(schedule.alphaCumprodAt(timestep))
      // The step goes down to s, below the next timestep, then up with noise. s is computed in float32, like the timestep tables.
      const alphaS = schedule.alphaCumprodAt(Math.floor(Math.fround(Math.fround(1 - eta) * next)))
      const ratio = schedule.alphaCumprodAt(next) / alphaS
      const { alpha, sigma } = cumulativeLevel(alphaS)

      builder.call(timestep)
      builder.combine(denoised, predictedSample(config.prediction_type, level))
      if (epsilon !== OUTPUT) builder.combine(epsilon, predictedNoise(config.prediction_type, level))
      builder.combine(SAMPLE, [
        [denoised, alpha],
        [epsilon, sigma],
      ])
      if (noise !== undefined && i + 1 < timesteps.length) {
        builder.noise(noise).combine(SAMPLE, [
          [SAMPLE, Math.sqrt(ratio)],
          [noise, Math.sqrt(1 - ratio)],
        ])
      }
    })
  }
}
