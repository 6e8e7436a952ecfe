import { choice, flag } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { roundHalfEven } from '../numeric.js'
import {
  clippingOptions,
  cumulativeLevel,
  limitSample,
  predictedSample,
  thresholdingOptions,
} from '../prediction.js'
import { type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { varianceOption } from '../solver_steps.js'
import { spacedTimesteps, spacingOptions } from '../spacing.js'

const options = {
  ...noiseScheduleOptions(undefined, ['sigmoid', 'laplace']),
  ...clippingOptions(true),
  ...thresholdingOptions,
  ...spacingOptions('leading'),
  variance_type: { ...varianceOption, default: 'fixed_small' as const },
  prediction_type: option(choice(['epsilon', 'sample', 'v_prediction']), 'epsilon'),
  rescale_betas_zero_snr: option(flag, false),
}

export type DDPMConfig = Values<typeof options>

/** Denoising diffusion probabilistic models: Ho et al. 2020, https://arxiv.org/abs/2006.11239, equations 6 and 7. */
export class DDPMScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['timesteps'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<DDPMConfig> = {}, carried: Carried = {}) {
    super('DDPMScheduler', options, given, carried)
    if (this.settings.variance_type === 'fixed_large_log') {
      throw invalidArgument(
        'variance_type',
        '"fixed_small", "fixed_small_log" or "fixed_large" ("fixed_large_log" would need the root of a negative number)',
        'fixed_large_log',
      )
    }
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const schedule = this.#schedule
    const denoised = builder.register()
    const noise = builder.register()
    const timesteps =
      run.timesteps ??
      spacedTimesteps(config.timestep_spacing, schedule.length, run.steps, config.steps_offset).map(
        roundHalfEven,
      )

    const start = schedule.alphaCumprodAt(timesteps[run.first] as number)
    writeStart(builder, run, cumulativeLevel(start))
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const alphaCumprod = schedule.alphaCumprodAt(timestep)
      const alphaCumprodNext = schedule.alphaCumprodAt(timesteps[i + 1] ?? -1)
      const alpha = alphaCumprod / alphaCumprodNext
      const posteriorVariance = Math.max(((1 - alphaCumprodNext) / (1 - alphaCumprod)) * (1 - alpha), 1e-20)
      const variance = config.variance_type === 'fixed_large' ? 1 - alpha : posteriorVariance

      builder.call(timestep)
      builder.combine(denoised, predictedSample(config.prediction_type, cumulativeLevel(alphaCumprod)))
      limitSample(builder, denoised, config)
      const terms: Term[] = [
        [denoised, (Math.sqrt(alphaCumprodNext) * (1 - alpha)) / (1 - alphaCumprod)],
        [SAMPLE, (Math.sqrt(alpha) * (1 - alphaCumprodNext)) / (1 - alphaCumprod)],
      ]
      if (timestep > 0) {
        builder.noise(noise)
        terms.push([noise, Math.sqrt(variance)])
      }
      builder.combine(SAMPLE, terms)
    })
  }
}
