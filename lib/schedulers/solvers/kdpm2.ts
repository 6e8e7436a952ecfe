import { choice } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { roundHalfEven } from '../numeric.js'
import { inputScale, predictedExplodingSample } from '../prediction.js'
import { type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run } from '../scheduler.js'
import { checkSigmaSpacing, explodingSteps, sigmaSpacingOptions, spacingOptions } from '../spacing.js'
import { ancestralStep, writeExplodingStart } from './euler.js'

const options = {
  ...noiseScheduleOptions({ start: 0.00085, end: 0.012, schedule: 'linear' }),
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  prediction_type: option(choice(['epsilon', 'v_prediction']), 'epsilon'),
}

export type KDPM2DiscreteConfig = Values<typeof options>

/**
 * The midpoint method in log σ: DPM-Solver-2 of Lu et al. 2022 as in Karras et al. 2022. Two calls per step, except one for
 * the last step, which ends at σ = 0. The ancestral form steps below σ' and returns with fresh noise.
 */
abstract class MidpointScheduler extends ConfiguredScheduler<typeof options> {
  readonly #schedule: NoiseSchedule
  readonly #ancestral: boolean

  constructor(name: string, ancestral: boolean, given: Partial<KDPM2DiscreteConfig>, carried: Carried) {
    super(name, options, given, carried)
    checkSigmaSpacing(this.settings)
    this.#schedule = new NoiseSchedule(this.settings)
    this.#ancestral = ancestral
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const schedule = this.#schedule
    const { timesteps, sigmas } = explodingSteps(config, schedule, run)
    const denoised = builder.register()
    const start = builder.register()
    const noise = this.#ancestral ? builder.register() : undefined
    const call = (timestep: number, sigma: number) => {
      builder.call(timestep, inputScale(sigma))
      builder.combine(denoised, predictedExplodingSample(config.prediction_type, sigma))
    }

    writeExplodingStart(builder, run, sigmas, config.timestep_spacing)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const sigma = sigmas[i] as number
      const next = sigmas[i + 1] as number
      call(config.use_karras_sigmas ? roundHalfEven(timestep) : timestep, sigma)
      if (next === 0) {
        builder.combine(SAMPLE, [[denoised, 1]])
        return
      }
      const { up, down } = this.#ancestral ? ancestralStep(sigma, next) : { up: 0, down: next }
      const middle = Math.sqrt(sigma * down)
      builder.combine(start, [[SAMPLE, 1]])
      builder.combine(SAMPLE, [
        [start, middle / sigma],
        [denoised, 1 - middle / sigma],
      ])
      call(schedule.timestepOf(middle), middle)
      const terms: Term[] = [
        [start, 1],
        [SAMPLE, (down - sigma) / middle],
        [denoised, -(down - sigma) / middle],
      ]
      if (noise !== undefined) {
        builder.noise(noise)
        terms.push([noise, up])
      }
      builder.combine(SAMPLE, terms)
    })
  }
}

/** The midpoint method in log σ, without noise: "DPM2". See Karras et al. 2022. */
export class KDPM2DiscreteScheduler extends MidpointScheduler {
  constructor(given: Partial<KDPM2DiscreteConfig> = {}, carried: Carried = {}) {
    super('KDPM2DiscreteScheduler', false, given, carried)
  }
}

/** The midpoint method in log σ, with ancestral noise: "DPM2 a". */
export class KDPM2AncestralDiscreteScheduler extends MidpointScheduler {
  constructor(given: Partial<KDPM2DiscreteConfig> = {}, carried: Carried = {}) {
    super('KDPM2AncestralDiscreteScheduler', true, given, carried)
  }
}
