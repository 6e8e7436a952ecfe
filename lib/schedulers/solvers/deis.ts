import { choice, flag, integer } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { limitSample, type NoiseLevel, predictedSample, thresholdingOptions } from '../prediction.js'
import { type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { distinctOrder, flowOptions, historyOf, solverLevels, solverSteps } from '../solver_steps.js'
import { checkSigmaSpacing, sigmaSpacing, sigmaSpacingOptions, spacingOptions } from '../spacing.js'

const options = {
  ...noiseScheduleOptions(),
  ...thresholdingOptions,
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  ...flowOptions,
  solver_order: option(integer(1, 3), 2),
  algorithm_type: option(choice(['deis'], { dpmsolver: 'deis', 'dpmsolver++': 'deis' }), 'deis'),
  solver_type: option(
    choice(['logrho'], {
      midpoint: 'logrho',
      heun: 'logrho',
      bh1: 'logrho',
      bh2: 'logrho',
    }),
    'logrho',
  ),
  lower_order_final: option(flag, true),
}

export type DEISMultistepConfig = Values<typeof options>

/**
 * The diffusion exponential integrator with a polynomial in log ρ, ρ = sigma / alpha: Zhang & Chen 2022,
 * https://arxiv.org/abs/2204.13902, section 3.3.
 */
export class DEISMultistepScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['mu'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<DEISMultistepConfig> = {}, carried: Carried = {}) {
    super('DEISMultistepScheduler', options, given, carried)
    checkSigmaSpacing(this.settings)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const spaced = solverSteps(config, this.#schedule, run, {
      spacing: config.timestep_spacing,
      offset: config.steps_offset,
    })
    // A run ends at the schedule's smallest σ. If a rule spaced the σ, its last σ is this end, and the last step changes nothing.
    const ruled = config.use_flow_sigmas || sigmaSpacing(config) !== null
    const end = (ruled ? spaced.sigmas.at(-1) : this.#schedule.sigmas[0]) as number
    const { timesteps, levels } = solverLevels(config, spaced, end)
    const outputs = Array.from({ length: config.solver_order }, () => builder.register())
    const last = timesteps.length - 1
    const short = config.lower_order_final && timesteps.length < 15

    writeStart(builder, run, levels[run.first] as NoiseLevel)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const { level, output } = historyOf(i, levels, outputs)
      builder.call(timestep)
      this.#writeNoise(builder, output(0), level(0))
      let order = Math.min(config.solver_order, i - run.first + 1)
      if (short) order = Math.min(order, last - i + 1)
      order = distinctOrder(order, level)

      const next = level(-1)
      const weights = integratedWeights(
        Array.from({ length: order }, (_, back) => level(back)),
        next,
      )
      builder.combine(SAMPLE, [
        [SAMPLE, next.alpha / level(0).alpha],
        ...weights.map((weight, back): Term => [output(back), next.alpha * weight]),
      ])
    })
  }

  /** target ← ε, computed from the predicted x_0: (x − alpha · x_0) / sigma. */
  #writeNoise(builder: ProgramBuilder, target: number, { alpha, ...level }: NoiseLevel): void {
    const config = this.settings
    // A predicted flow is in the scale of the solver's own σ.
    const sigma = config.prediction_type === 'flow_prediction' ? level.raw : level.sigma
    builder.combine(target, predictedSample(config.prediction_type, { alpha, ...level }))
    limitSample(builder, target, config)
    builder.combine(target, [
      [SAMPLE, 1 / sigma],
      [target, -alpha / sigma],
    ])
  }
}

/**
 * For each node: the integral over ρ, from the newest node to `next`, of the Lagrange polynomial in log ρ that is 1 at
 * this node and 0 at the others.
 */
function integratedWeights(nodes: readonly NoiseLevel[], next: NoiseLevel): number[] {
  const start = nodes[0] as NoiseLevel
  // With u = log ρ counted from the newest node, ∫ uⁿ dρ = ρ_0 · ∫ uⁿ eᵘ du: by parts, from n = 0 up.
  const u = start.lambda - next.lambda
  const rho = start.sigma / start.alpha
  const moments = [rho * Math.expm1(u)]
  moments.push(rho * u * Math.exp(u) - (moments[0] as number))
  moments.push(rho * u ** 2 * Math.exp(u) - 2 * (moments[1] as number))
  return nodes.map((node, k) => {
    const others = nodes.filter((_, j) => j !== k).map((other) => start.lambda - other.lambda)
    const at = start.lambda - node.lambda
    const scale = others.reduce((product, other) => product * (at - other), 1)
    const coefficients = others.reduce<number[]>(
      (polynomial, root) => [...polynomial.map((c, n) => (polynomial[n - 1] ?? 0) - root * c), 1],
      [1],
    )
    return coefficients.reduce((sum, c, n) => sum + c * (moments[n] as number), 0) / scale
  })
}
