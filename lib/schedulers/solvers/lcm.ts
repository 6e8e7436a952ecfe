import { choice, flag, integer, number } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import {
  clippingOptions,
  cumulativeLevel,
  limitSample,
  predictedSample,
  thresholdingOptions,
} from '../prediction.js'
import { type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { spacingOptions } from '../spacing.js'

/** The options of schedulers for distilled networks. These were trained on every k-th timestep only. */
export const distilledOptions = {
  ...noiseScheduleOptions({ start: 0.00085, end: 0.012, schedule: 'scaled_linear' }),
  ...clippingOptions(false),
  ...thresholdingOptions,
  ...spacingOptions('leading'),
  original_inference_steps: option(integer(1, 1_000_000), 50),
  set_alpha_to_one: option(flag, true),
  prediction_type: option(choice(['epsilon', 'sample', 'v_prediction']), 'epsilon'),
  timestep_scaling: option(number(0), 10),
  rescale_betas_zero_snr: option(flag, false),
}

export type LCMConfig = Values<typeof distilledOptions>

/** Multistep latent consistency sampling: Luo et al. 2023, https://arxiv.org/abs/2310.04378, algorithm 3. */
export class LCMScheduler extends ConfiguredScheduler<typeof distilledOptions> {
  protected override readonly takes = ['timesteps'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<LCMConfig> = {}, carried: Carried = {}) {
    super('LCMScheduler', distilledOptions, given, carried)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const schedule = this.#schedule
    const timesteps =
      run.timesteps ?? distilledTimesteps(schedule.length, config.original_inference_steps, run.steps)
    const denoised = builder.register()
    const noise = builder.register()
    const start = schedule.alphaCumprodAt(timesteps[run.first] as number)
    writeStart(builder, run, cumulativeLevel(start))
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      // The boundary condition of consistency models, f(x, 0) = x, with a standard deviation of the data of 0.5.
      const scaled = timestep * config.timestep_scaling
      const ofSample = 0.25 / (scaled ** 2 + 0.25)
      const ofDenoised = scaled / Math.sqrt(scaled ** 2 + 0.25)
      const next = timesteps[i + 1]
      const level =
        next === undefined ? { alpha: 1, sigma: 0 } : cumulativeLevel(schedule.alphaCumprodAt(next))

      builder.call(timestep)
      const prediction = predictedSample(
        config.prediction_type,
        cumulativeLevel(schedule.alphaCumprodAt(timestep)),
      )
      builder.combine(denoised, prediction)
      limitSample(builder, denoised, config)
      builder.combine(SAMPLE, [
        [denoised, level.alpha * ofDenoised],
        [SAMPLE, level.alpha * ofSample],
      ])
      if (next !== undefined) {
        builder.noise(noise).combine(SAMPLE, [
          [SAMPLE, 1],
          [noise, level.sigma],
        ])
      }
    })
  }
}

/** Falling timesteps, spaced over the `original` timesteps (out of `total`) on which the network was distilled. */
export function distilledTimesteps(total: number, original: number, steps: number): number[] {
  if (original > total) {
    throw invalidArgument('original_inference_steps', `at most ${total} (num_train_timesteps)`, original)
  }
  if (steps > original) {
    throw invalidArgument('steps', `at most ${original} (original_inference_steps)`, steps)
  }
  const stride = Math.floor(total / original)
  return Array.from({ length: steps }, (_, i) => (original - Math.floor(i * (original / steps))) * stride - 1)
}
