import { choice, flag, integer, number } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import {
  checkAlgorithm,
  type SolverCoefficients,
  solverCoefficients,
  writeConvertedOutput,
} from '../dpmsolver_coefficients.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { type NoiseLevel, thresholdingOptions } from '../prediction.js'
import { type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import {
  type At,
  flowOptions,
  historyOf,
  solverLevels,
  solverSteps,
  varianceOption,
} from '../solver_steps.js'
import { checkSigmaSpacing, sigmaSpacingOptions } from '../spacing.js'

const options = {
  ...noiseScheduleOptions(),
  ...thresholdingOptions,
  ...sigmaSpacingOptions,
  ...flowOptions,
  solver_order: option(integer(1, 3), 2),
  algorithm_type: option(
    choice(['dpmsolver', 'dpmsolver++', 'sde-dpmsolver++'], {
      deis: 'dpmsolver++',
    }),
    'dpmsolver++',
  ),
  solver_type: option(
    choice(['midpoint', 'heun'], {
      logrho: 'midpoint',
      bh1: 'midpoint',
      bh2: 'midpoint',
    }),
    'midpoint',
  ),
  lower_order_final: option(flag, false),
  final_sigmas_type: option(choice(['zero', 'sigma_min']), 'zero'),
  lambda_min_clipped: option(number(), -Infinity),
  variance_type: varianceOption,
}

export type DPMSolverSinglestepConfig = Values<typeof options>

/**
 * DPM-Solver and DPM-Solver++ in single steps. Calls come in groups of `solver_order`. Every call of a group starts from the
 * group's first sample, with a higher order each time. Lu et al. 2022, https://arxiv.org/abs/2206.00927,
 * algorithms 1 and 2, with intermediate times on the schedule's own grid.
 */
export class DPMSolverSinglestepScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['timesteps', 'mu'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<DPMSolverSinglestepConfig> = {}, carried: Carried = {}) {
    super('DPMSolverSinglestepScheduler', options, given, carried)
    checkSigmaSpacing(this.settings)
    checkAlgorithm(this.settings)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const end = config.final_sigmas_type === 'zero' ? 0 : (this.#schedule.sigmas[0] as number)
    const spaced = solverSteps(config, this.#schedule, run, { lambdaMin: config.lambda_min_clipped })
    const { timesteps, levels } = solverLevels(config, spaced, end)
    const orders = this.#orders(run.steps)
    const outputs = Array.from({ length: config.solver_order }, () => builder.register())
    const start = builder.register()
    const noise = config.algorithm_type.startsWith('sde') ? builder.register() : undefined

    writeStart(builder, run, levels[run.first] as NoiseLevel)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const order = Math.min(orders[i] as number, i - run.first + 1)
      const { level, output } = historyOf(i, levels, outputs)
      builder.call(timestep)
      writeConvertedOutput(builder, output(0), config, level(0))
      if (order === 1) builder.combine(start, [[SAMPLE, 1]])
      const coefficients = solverCoefficients(config.algorithm_type, level(order - 1), level(-1))
      const terms: Term[] = [
        [start, coefficients.sample],
        ...groupTerms(order, config.solver_type, coefficients, level, output),
      ]
      if (noise !== undefined) {
        builder.noise(noise)
        terms.push([noise, coefficients.noise])
      }
      builder.combine(SAMPLE, terms)
    })
  }

  /** The order of each call. A run with an incomplete last group ends with lower orders. */
  #orders(steps: number): number[] {
    const { solver_order: order, lower_order_final, final_sigmas_type } = this.settings
    const zero = final_sigmas_type === 'zero'
    const orders = Array.from({ length: steps }, (_, i) => (i % order) + 1)
    const lowered = lower_order_final || zero || steps % order !== 0
    // The last group would end with the highest order, so it is shortened: 1 2 1 for third order, 1 1 for second.
    if (lowered && steps % order === 0) orders[steps - 1] = 1
    if (zero) orders[steps - 1] = 1
    return orders
  }
}

/** The terms of D0, D1 and D2, computed from the outputs of a group so far. Slopes are relative to its first output. */
function groupTerms(
  order: number,
  solverType: 'midpoint' | 'heun',
  { d0, d1, d1Midpoint, d2 }: SolverCoefficients,
  level: At<NoiseLevel>,
  output: At<number>,
): Term[] {
  if (order === 1) return [[output(0), d0]]
  const first = level(order - 1).lambda
  const h = level(-1).lambda - first
  const r0 = (level(0).lambda - first) / h
  if (order === 2) {
    const slope = (solverType === 'midpoint' ? d1Midpoint : d1) / r0
    return [
      [output(0), slope],
      [output(1), d0 - slope],
    ]
  }
  const r1 = (level(1).lambda - first) / h
  // The midpoint form uses only the slope to the newest output. Heun's form fits a parabola through both.
  const newest = solverType === 'midpoint' ? d1 / r0 : (-r1 * d1 + 2 * d2) / (r0 - r1) / r0
  const middle = solverType === 'midpoint' ? 0 : (r0 * d1 - 2 * d2) / (r0 - r1) / r1
  return [
    [output(0), newest],
    [output(1), middle],
    [output(2), d0 - newest - middle],
  ]
}
