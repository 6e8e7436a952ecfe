import { choice, flag, integer, list, nullable, number } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
import { writeConvertedOutput } from '../dpmsolver_coefficients.js'
import { runShift, shiftSigma, stretchToTerminal } from '../flow.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { linspace } from '../numeric.js'
import { type NoiseLevel, thresholdingOptions } from '../prediction.js'
import { type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { distinctOrder, flowOptions, historyOf, solverLevels, solverSteps } from '../solver_steps.js'
import { checkSigmaSpacing, sigmaSpacing, sigmaSpacingOptions, spacingOptions } from '../spacing.js'

/** A custom predictor would be another scheduler object, which a config file cannot contain. */
const noPredictor = option<null>(
  { expected: 'null', read: (given) => (given === null ? null : undefined) },
  null,
)

const options = {
  ...noiseScheduleOptions(),
  ...thresholdingOptions,
  ...sigmaSpacingOptions,
  ...spacingOptions('linspace'),
  ...flowOptions,
  solver_order: option(integer(1, 4), 2),
  predict_x0: option(flag, true),
  solver_type: option(choice(['bh1', 'bh2'], { midpoint: 'bh2', heun: 'bh2', logrho: 'bh2' }), 'bh2'),
  lower_order_final: option(flag, true),
  disable_corrector: option(list(integer(0, 1_000_000)), []),
  solver_p: noPredictor,
  final_sigmas_type: option(choice(['zero', 'sigma_min']), 'zero'),
  rescale_betas_zero_snr: option(flag, false),
  sigma_min: option(nullable(number(0)), null),
  sigma_max: option(nullable(number(0)), null),
  shift_terminal: option(nullable(number(0, 1)), null),
}

export type UniPCMultistepConfig = Values<typeof options>

/**
 * The unified predictor–corrector: Zhao et al. 2023, https://arxiv.org/abs/2302.04867, algorithms 5 to 8. After each call, the
 * current sample is corrected first, then the next one is predicted.
 */
export class UniPCMultistepScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['sigmas', 'mu'] as const
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<UniPCMultistepConfig> = {}, carried: Carried = {}) {
    super('UniPCMultistepScheduler', options, given, carried)
    const config = this.settings
    checkSigmaSpacing(config)
    if (config.shift_terminal !== null && !config.use_flow_sigmas) {
      throw invalidArgument('shift_terminal', 'null if use_flow_sigmas is false', config.shift_terminal)
    }
    if (!config.predict_x0 && config.prediction_type === 'flow_prediction') {
      throw invalidArgument('predict_x0', 'true with prediction_type "flow_prediction"', false)
    }
    if (!config.lower_order_final && config.solver_order > 1 && config.final_sigmas_type === 'zero') {
      throw invalidArgument('lower_order_final', 'true with final_sigmas_type "zero"', false)
    }
    this.#schedule = new NoiseSchedule(config, { finiteTerminal: true })
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const config = this.settings
    const { timesteps, levels } = this.#levels(run)
    const outputs = Array.from({ length: config.solver_order + 1 }, () => builder.register())
    const start = builder.register()
    const conversion = {
      ...config,
      algorithm_type: config.predict_x0 ? ('dpmsolver++' as const) : ('dpmsolver' as const),
      thresholding: config.thresholding && config.predict_x0,
    }
    let order = 0

    writeStart(builder, run, levels[run.first] as NoiseLevel)
    timesteps.forEach((timestep, i) => {
      if (i < run.first) return
      const { level, output } = historyOf(i, levels, outputs)
      builder.call(timestep)
      writeConvertedOutput(builder, output(0), conversion, level(0))

      const corrects = i > run.first && !config.disable_corrector.includes(i - 1)
      if (corrects && level(0).raw !== level(1).raw) {
        const past = Array.from({ length: order }, (_, back) => ({
          level: level(back + 1),
          output: output(back + 1),
        }))
        builder.combine(SAMPLE, this.#update(start, past, level(0), output(0)))
      }
      order = Math.min(config.solver_order, i - run.first + 1)
      if (config.lower_order_final) order = Math.min(order, timesteps.length - i)
      order = distinctOrder(order, level)
      builder.combine(start, [[SAMPLE, 1]])
      const past = Array.from({ length: order }, (_, back) => ({ level: level(back), output: output(back) }))
      if (level(-1).raw !== level(0).raw) builder.combine(SAMPLE, this.#update(start, past, level(-1)))
    })
  }

  /**
   * The step from `past[0]`, where the sample was `start`, to `next`, using the outputs there and before. The corrector also
   * uses the output at `next`.
   */
  #update(start: number, past: readonly Past[], next: NoiseLevel, corrected?: number): Term[] {
    const { predict_x0, solver_type } = this.settings
    const [from] = past as [Past, ...Past[]]
    const order = past.length
    const h = next.lambda - from.level.lambda
    const hh = predict_x0 ? -h : h
    const phi1 = Math.expm1(hh)
    const scale = predict_x0 ? next.alpha : next.sigma
    const ratios = past.slice(1).map(({ level }) => (level.lambda - from.level.lambda) / h)
    const bh = solver_type === 'bh1' ? hh : phi1
    const weights = slopeWeights(corrected === undefined ? ratios : [...ratios, 1], hh, bh)

    const terms: Term[] = [
      [start, predict_x0 ? next.sigma / from.level.sigma : next.alpha / from.level.alpha],
      // sigma' · (eʰ − 1), in a form that has its limit at sigma' = 0
      [
        from.output,
        predict_x0 ? -next.alpha * phi1 : next.sigma - (next.alpha * from.level.sigma) / from.level.alpha,
      ],
    ]
    const addSlope = (output: number, weight: number) => {
      if (weight !== 0) terms.push([output, -scale * bh * weight], [from.output, scale * bh * weight])
    }
    for (let k = 1; k < order; k++) {
      addSlope((past[k] as Past).output, (weights[k - 1] as number) / (ratios[k - 1] as number))
    }
    if (corrected !== undefined) addSlope(corrected, weights[order - 1] as number)
    return terms
  }

  #levels(run: Run): { timesteps: number[]; levels: NoiseLevel[] } {
    const config = this.settings
    const spread = sigmaSpacing(config) !== null
    if (run.sigmas && (spread || !config.use_flow_sigmas)) {
      throw invalidArgument(
        'sigmas',
        'omitted unless the config sets use_flow_sigmas and no other rule',
        run.sigmas,
      )
    }
    let spaced = solverSteps(config, this.#schedule, run, {
      spacing: config.timestep_spacing,
      offset: config.steps_offset,
    })
    if (config.use_flow_sigmas && (!spread || config.use_karras_sigmas)) {
      const sigmas = spread ? spaced.sigmas.map((sigma) => sigma / (sigma + 1)) : this.#flowSigmas(run)
      spaced = { sigmas, timesteps: sigmas.map((sigma) => sigma * this.#schedule.length) }
    }
    if (run.sigmas) return solverLevels(config, spaced, run.sigmas.at(-1) as number)
    const smallest = spread || config.use_flow_sigmas ? spaced.sigmas.at(-1) : this.#schedule.sigmas[0]
    return solverLevels(config, spaced, config.final_sigmas_type === 'zero' ? 0 : (smallest as number))
  }

  #flowSigmas(run: Run): number[] {
    const { flow_shift, shift_terminal } = this.settings
    const shift = runShift(this.settings, flow_shift, run)
    let sigmas = (run.sigmas ?? linspace(1, 1 / this.#schedule.length, run.steps + 1))
      .slice(0, -1)
      .map((sigma) => shiftSigma(sigma, shift))
    if (shift_terminal) sigmas = stretchToTerminal(sigmas, shift_terminal)
    // At σ = 1 the sample contains nothing of x_0, and λ is infinite.
    if (Math.abs((sigmas[0] as number) - 1) < 1e-6) sigmas[0] = (sigmas[0] as number) - 1e-6
    return sigmas
  }
}

/** A converted output of the network, and its noise level. */
interface Past {
  readonly level: NoiseLevel
  readonly output: number
}

/**
 * The weights of the slopes at these ratios of the step: the solution of R ρ = b of equation 10, in which row n contains
 * the n-th powers. For one slope, the paper's simpler second-order solution ρ = ½ is used.
 */
function slopeWeights(ratios: readonly number[], hh: number, bh: number): number[] {
  if (ratios.length === 0) return []
  if (ratios.length === 1) return [0.5]
  let factorial = 1
  let phi = Math.expm1(hh) / hh - 1
  const rows = ratios.map((_, n) => {
    const row = [...ratios.map((ratio) => ratio ** n), (phi * factorial) / bh]
    factorial *= n + 2
    phi = phi / hh - 1 / factorial
    return row
  })
  return solve(rows)
}

/** Gaussian elimination with partial pivoting of rows (coefficients…, right side). */
function solve(rows: number[][]): number[] {
  const size = rows.length
  for (let column = 0; column < size; column++) {
    const candidates = rows.slice(column).map((row) => Math.abs(row[column] as number))
    const pivot = column + candidates.indexOf(Math.max(...candidates))
    const row = rows[pivot] as number[]
    rows[pivot] = rows[column] as number[]
    rows[column] = row
    for (let other = 0; other < size; other++) {
      if (other === column) continue
      const factor = ((rows[other] as number[])[column] as number) / (row[column] as number)
      rows[other] = (rows[other] as number[]).map((value, k) => value - factor * (row[k] as number))
    }
  }
  return rows.map((row, k) => (row[size] as number) / (row[k] as number))
}
