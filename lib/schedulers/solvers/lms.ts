import { choice } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { inputScale, predictedExplodingSample } from '../prediction.js'
import { OUTPUT, type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run } from '../scheduler.js'
import { checkSigmaSpacing, explodingSteps, sigmaSpacingOptions, spacingOptions } from '../spacing.js'
import { writeExplodingStart } from './euler.js'

const options = {
  ...noiseScheduleOptions(),
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  prediction_type: option(choice(['epsilon', 'sample', 'v_prediction']), 'epsilon'),
}

export type LMSDiscreteConfig = Values<typeof options>

/** The number of slopes that the polynomial passes through. */
const order = 4

/** The linear multistep method (Adams–Bashforth with uneven steps) in σ, of Crowson's k-diffusion. */
export class LMSDiscreteScheduler extends ConfiguredScheduler<typeof options> {
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<LMSDiscreteConfig> = {}, carried: Carried = {}) {
    super('LMSDiscreteScheduler', options, given, carried)
    checkSigmaSpacing(this.settings)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const { timesteps, sigmas } = explodingSteps(config, this.#schedule, run)
    const slopes = Array.from({ length: order }, () => builder.register())
    writeExplodingStart(builder, run, sigmas, config.timestep_spacing)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const sigma = sigmas[i] as number
      const slope = (back: number) => slopes[(i - back) % order] as number
      builder.call(timestep, inputScale(sigma))
      // The slope is (x − x_0) / σ.
      const [[, ofSample], [, ofOutput]] = predictedExplodingSample(config.prediction_type, sigma) as [
        Term,
        Term,
      ]
      builder.combine(slope(0), [
        [SAMPLE, (1 - ofSample) / sigma],
        [OUTPUT, -ofOutput / sigma],
      ])
      const past = sigmas.slice(Math.max(i + 1 - order, 0), i + 1).reverse()
      // A run from latents has no older slopes. The reference leaves their terms out and keeps the weights of the others.
      builder.combine(SAMPLE, [
        [SAMPLE, 1],
        ...past
          .slice(0, i - run.first + 1)
          .map((_, k): Term => [slope(k), integratedBasis(past, k, sigma, sigmas[i + 1] as number)]),
      ])
    })
  }
}

/**
 * The integral from `from` to `to` of the Lagrange polynomial that is 1 at nodes[k] and 0 at the other nodes. Two Gauss
 * points are exact up to the third degree, which is its highest.
 */
function integratedBasis(nodes: readonly number[], k: number, from: number, to: number): number {
  const node = nodes[k] as number
  const basis = (x: number) =>
    nodes.reduce((product, other, j) => (j === k ? product : (product * (x - other)) / (node - other)), 1)
  const middle = (from + to) / 2
  const half = (to - from) / 2
  return half * (basis(middle - half / Math.sqrt(3)) + basis(middle + half / Math.sqrt(3)))
}
