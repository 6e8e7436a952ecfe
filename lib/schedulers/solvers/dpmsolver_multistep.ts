import { choice, flag, integer, number } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
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
  distinctOrder,
  flowOptions,
  historyOf,
  solverLevels,
  solverSteps,
  varianceOption,
} from '../solver_steps.js'
import { checkSigmaSpacing, sigmaSpacingOptions, spacingOptions } from '../spacing.js'

const options = {
  ...noiseScheduleOptions(),
  ...thresholdingOptions,
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  ...flowOptions,
  solver_order: option(integer(1, 3), 2),
  algorithm_type: option(
    choice(['dpmsolver', 'dpmsolver++', 'sde-dpmsolver', 'sde-dpmsolver++'], {
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
  lower_order_final: option(flag, true),
  euler_at_final: option(flag, false),
  use_lu_lambdas: option(flag, false),
  final_sigmas_type: option(choice(['zero', 'sigma_min']), 'zero'),
  lambda_min_clipped: option(number(), -Infinity),
  variance_type: varianceOption,
  rescale_betas_zero_snr: option(flag, false),
}

export type DPMSolverMultistepConfig = Values<typeof options>

/**
 * DPM-Solver and DPM-Solver++ with multistep history, as ODE or SDE: Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided
 * Sampling of Diffusion Probabilistic Models", https://arxiv.org/abs/2211.01095, algorithm 2.
 */
export class DPMSolverMultistepScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['timesteps', 'mu'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<DPMSolverMultistepConfig> = {}, carried: Carried = {}) {
    super('DPMSolverMultistepScheduler', options, given, carried)
    checkSigmaSpacing(this.settings)
    checkAlgorithm(this.settings)
    if (this.settings.algorithm_type === 'sde-dpmsolver' && this.settings.solver_order === 3) {
      throw invalidArgument('solver_order', '1 or 2 with algorithm_type "sde-dpmsolver"', 3)
    }
    this.#schedule = new NoiseSchedule(this.settings, { finiteTerminal: true })
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const spaced = solverSteps(config, this.#schedule, run, {
      spacing: config.timestep_spacing,
      offset: config.steps_offset,
      lambdaMin: config.lambda_min_clipped,
      luLambdas: config.use_lu_lambdas,
      // The largest σ of a cosine schedule are so close together that whole timesteps could not distinguish them.
      wholeTimesteps: config.beta_schedule !== 'squaredcos_cap_v2',
    })
    const end = config.final_sigmas_type === 'zero' ? 0 : (this.#schedule.sigmas[0] as number)
    const { timesteps, levels } = solverLevels(config, spaced, end)
    const outputs = Array.from({ length: config.solver_order }, () => builder.register())
    const noise = config.algorithm_type.startsWith('sde') ? builder.register() : undefined
    const last = timesteps.length - 1
    const short = config.lower_order_final && timesteps.length < 15
    const eulerLast = config.euler_at_final || short || config.final_sigmas_type === 'zero'

    writeStart(builder, run, levels[run.first] as NoiseLevel)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const { level, output } = historyOf(i, levels, outputs)
      builder.call(timestep)
      writeConvertedOutput(builder, output(0), config, level(0))
      let order = Math.min(config.solver_order, i - run.first + 1)
      if (i === last - 1 && short) order = Math.min(order, 2)
      if (i === last && eulerLast) order = 1
      order = distinctOrder(order, level)

      const coefficients = solverCoefficients(config.algorithm_type, level(0), level(-1))
      const terms: Term[] = [[SAMPLE, coefficients.sample]]
      if (order === 1) terms.push([output(0), coefficients.d0])
      else if (order === 2) terms.push(...this.#secondOrder(coefficients, level, output))
      else terms.push(...thirdOrder(coefficients, level, output))
      if (noise !== undefined) {
        builder.noise(noise)
        terms.push([noise, coefficients.noise])
      }
      builder.combine(SAMPLE, terms)
    })
  }

  /** D1 = (m0 − m1) / r0. */
  #secondOrder(coefficients: SolverCoefficients, level: At<NoiseLevel>, output: At<number>): Term[] {
    const { d0, d1, d1Midpoint } = coefficients
    const h = level(-1).lambda - level(0).lambda
    const r0 = (level(0).lambda - level(1).lambda) / h
    const slope = (this.settings.solver_type === 'midpoint' ? d1Midpoint : d1) / r0
    return [
      [output(0), d0 + slope],
      [output(1), -slope],
    ]
  }
}

/** The terms of D0, D1 and D2, computed from three outputs: Lu et al. 2022, DPM-Solver, appendix B. */
function thirdOrder({ d0, d1, d2 }: SolverCoefficients, level: At<NoiseLevel>, output: At<number>): Term[] {
  const h = level(-1).lambda - level(0).lambda
  const r0 = (level(0).lambda - level(1).lambda) / h
  const r1 = (level(1).lambda - level(2).lambda) / h
  const newer = (d1 * (2 * r0 + r1) + d2) / (r0 + r1) / r0
  const older = -(d1 * r0 + d2) / (r0 + r1) / r1
  return [
    [output(0), d0 + newer],
    [output(1), older - newer],
    [output(2), -older],
  ]
}
