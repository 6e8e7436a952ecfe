import { choice, flag, nullable, number } from '../checks/kinds.js'
import { option, type Values } from '../checks/options.js'
import { runShift } from './flow.js'
import type { NoiseSchedule } from './noise_schedule.js'
import { linspace, roundHalfEven } from './numeric.js'
import { flowLevel, type NoiseLevel, preservingLevel } from './prediction.js'
import type { Run } from './scheduler.js'
import { flowSigmas, openTimesteps, type Spacing, sigmaSpacing, type sigmaSpacingOptions } from './spacing.js'

/** Options that DPM-Solver, DEIS and UniPC share. */
export const flowOptions = {
  prediction_type: option(choice(['epsilon', 'sample', 'v_prediction', 'flow_prediction']), 'epsilon'),
  use_flow_sigmas: option(flag, false),
  flow_shift: option(number(0), 1),
  use_dynamic_shifting: option(flag, false),
  time_shift_type: option(choice(['exponential', 'linear']), 'exponential'),
}

/**
 * Networks that predict a variance as well have twice the channels and are not supported. Only DDPM uses the fixed
 * variances.
 */
export const varianceOption = option(
  nullable(choice(['fixed_small', 'fixed_small_log', 'fixed_large', 'fixed_large_log'])),
  null,
)

type StepsConfig = Values<typeof sigmaSpacingOptions> &
  Pick<
    Values<typeof flowOptions>,
    'use_flow_sigmas' | 'flow_shift' | 'use_dynamic_shifting' | 'time_shift_type'
  >

/** Options that only some of these solvers have. */
interface SolverSteps {
  readonly spacing?: Spacing
  readonly offset?: number
  /** Timesteps with a λ below this are left out. */
  readonly lambdaMin?: number
  /** Evenly spaced in λ: Lu et al. 2022. */
  readonly luLambdas?: boolean
  /** Round the timesteps of Karras's and Lu's rules. All others are truncated at the end. */
  readonly wholeTimesteps?: boolean
}

/** The timesteps of the calls, and σ at each of them, without the end. */
export function solverSteps(
  config: StepsConfig,
  schedule: NoiseSchedule,
  run: Run,
  {
    spacing = 'linspace',
    offset = 0,
    lambdaMin = -Infinity,
    luLambdas = false,
    wholeTimesteps = true,
  }: SolverSteps = {},
): { timesteps: number[]; sigmas: number[] } {
  const { steps, timesteps: own } = run
  const total = schedule.length
  const max = schedule.sigmas.at(-1) as number
  const min = schedule.sigmas[0] as number
  const withTimesteps = (sigmas: number[], round: boolean) => {
    const timesteps = sigmas.map((sigma) => schedule.timestepOf(sigma))
    return { timesteps: round ? timesteps.map(roundHalfEven) : timesteps, sigmas }
  }
  if (luLambdas && !config.use_karras_sigmas) {
    const sigmas = linspace(schedule.logSigmas.at(-1) as number, schedule.logSigmas[0] as number, steps).map(
      Math.exp,
    )
    return withTimesteps(sigmas, wholeTimesteps)
  }
  const spread = sigmaSpacing(config)
  if (spread) return withTimesteps(spread(max, min, steps), config.use_karras_sigmas && wholeTimesteps)
  if (config.use_flow_sigmas) {
    // As in the reference, a config with dynamic shifting has flow_shift where no μ is given.
    const shift = run.mu === undefined ? config.flow_shift : runShift(config, config.flow_shift, run)
    const sigmas = flowSigmas(total, shift, steps)
    return { timesteps: sigmas.map((sigma) => sigma * total), sigmas }
  }
  const clipped = schedule.sigmas.filter((sigma) => -Math.log(sigma) < lambdaMin).length
  const timesteps = own ?? openTimesteps(spacing, total - clipped, total, steps, offset)
  return { timesteps: [...timesteps], sigmas: timesteps.map((timestep) => schedule.sigmaAt(timestep)) }
}

/** Whole timesteps for the network, and the noise levels of all σ and of the end. */
export function solverLevels(
  config: { readonly use_flow_sigmas: boolean },
  { timesteps, sigmas }: { timesteps: number[]; sigmas: number[] },
  end: number,
): { timesteps: number[]; levels: NoiseLevel[] } {
  const level = config.use_flow_sigmas ? flowLevel : preservingLevel
  return {
    timesteps: timesteps.map(Math.trunc),
    levels: [...sigmas, end].map((sigma) => level(Math.fround(sigma))),
  }
}

/** A value at the current step (0), at earlier steps (1, 2) or at the next one (−1). */
export type At<T> = (back: number) => T

/** The noise levels around a step, and the registers of its output and of those before, which are used in turn. */
export function historyOf(
  step: number,
  levels: readonly NoiseLevel[],
  outputs: readonly number[],
): { level: At<NoiseLevel>; output: At<number> } {
  return {
    level: (back) => levels[step - back] as NoiseLevel,
    output: (back) => outputs[(step - back) % outputs.length] as number,
  }
}

/**
 * The order that the history allows. With very many steps, rounded timesteps repeat, and two outputs at the same level
 * have no slope.
 */
export function distinctOrder(order: number, level: At<NoiseLevel>): number {
  for (let back = 1; back < order; back++) {
    if (level(back).raw === level(back - 1).raw) return back
  }
  return order
}
