import { choice, flag, integer, nullable, number } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
import { runShift, shiftSigma, stretchToTerminal } from '../flow.js'
import { linspace } from '../numeric.js'
import { flowLevel } from '../prediction.js'
import { OUTPUT, type ProgramBuilder, SAMPLE } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { checkSigmaSpacing, sigmaSpacing, sigmaSpacingOptions } from '../spacing.js'

const options = {
  ...sigmaSpacingOptions,
  num_train_timesteps: option(integer(2, 1_000_000), 1000),
  shift: option(number(0), 1),
  use_dynamic_shifting: option(flag, false),
  time_shift_type: option(choice(['exponential', 'linear']), 'exponential'),
  // The line from a number of tokens to μ. Pipelines of other models compute μ from it; no scheduler reads it.
  base_shift: option(nullable(number()), 0.5),
  max_shift: option(nullable(number()), 1.15),
  base_image_seq_len: option(integer(1, 1_000_000_000), 256),
  max_image_seq_len: option(integer(1, 1_000_000_000), 4096),
  shift_terminal: option(nullable(number(0, 1)), null),
  invert_sigmas: option(flag, false),
  stochastic_sampling: option(flag, false),
}

export type FlowMatchEulerDiscreteConfig = Values<typeof options>

/**
 * Euler's method for flow matching, where x = (1 − σ) x_0 + σ ε and the network predicts v = ε − x_0: Esser et al. 2024,
 * https://arxiv.org/abs/2403.03206. With `stochastic_sampling`, each step mixes its prediction of x_0 with fresh noise.
 *
 * The σ of a run are shifted twice, as in the reference: they are spread between the ends of a table that is shifted, and
 * then shifted again. The sample stays float32, while the reference rounds it to the network's dtype after each step.
 */
export class FlowMatchEulerDiscreteScheduler extends ConfiguredScheduler<typeof options> {
  protected override readonly takes = ['timesteps', 'sigmas', 'mu'] as const
  protected override readonly fractional = true

  constructor(given: Partial<FlowMatchEulerDiscreteConfig> = {}, carried: Carried = {}) {
    const predicts = { prediction_type: 'flow_prediction' }
    super('FlowMatchEulerDiscreteScheduler', options, given, { ...predicts, ...carried })
    checkSigmaSpacing(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const { num_train_timesteps: total, stochastic_sampling } = this.settings
    const sigmas = this.#sigmas(run)
    const noise = stochastic_sampling ? builder.register() : undefined
    writeStart(builder, run, flowLevel(sigmas[run.first] as number))
    for (let i = run.first; i < run.steps; i++) {
      const sigma = sigmas[i] as number
      const next = sigmas[i + 1] as number
      builder.call(Math.fround(sigma * total))
      if (noise === undefined) {
        builder.combine(SAMPLE, [
          [SAMPLE, 1],
          [OUTPUT, next - sigma],
        ])
        continue
      }
      if (next !== 0) builder.noise(noise)
      builder.combine(SAMPLE, [
        [SAMPLE, 1 - next],
        [OUTPUT, -sigma * (1 - next)],
        ...(next !== 0 ? [[noise, next] as const] : []),
      ])
    }
  }

  /** σ at each step and at the end, in float32. */
  #sigmas(run: Run): number[] {
    const config = this.settings
    const shift = runShift(config, config.shift, run)
    // The reference computes with a caller's values in float32, and with its own in float64.
    const round = run.sigmas || run.timesteps ? Math.fround : undefined
    let sigmas = this.#unshiftedSigmas(run).map((sigma) => shiftSigma(sigma, shift, round))
    if (config.shift_terminal) {
      if (run.steps === 1) throw invalidArgument('steps', 'at least 2 if the config sets shift_terminal', 1)
      sigmas = stretchToTerminal(sigmas, config.shift_terminal)
    }
    const spread = sigmaSpacing(config)
    if (spread) sigmas = spread(sigmas[0] as number, sigmas.at(-1) as number, run.steps)
    const all = [...sigmas, run.sigmas?.at(-1) ?? 0].map(Math.fround)
    return config.invert_sigmas ? all.map((sigma) => Math.fround(1 - sigma)) : all
  }

  #unshiftedSigmas({ steps, timesteps, sigmas }: Run): number[] {
    const { num_train_timesteps: total, use_dynamic_shifting, shift } = this.settings
    if (sigmas) return sigmas.slice(0, -1).map(Math.fround)
    if (timesteps) return timesteps.map((timestep) => Math.fround(Math.fround(timestep) / total))
    // σ of the timesteps T and 1. With dynamic shifting the table is not shifted.
    const ends = [1, Math.fround(1 / total)].map((sigma) =>
      use_dynamic_shifting ? sigma : shiftSigma(sigma, shift, Math.fround),
    )
    const [from, to] = ends as [number, number]
    return linspace(from * total, to * total, steps).map((timestep) => timestep / total)
  }
}
