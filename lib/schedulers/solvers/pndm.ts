import { choice, flag } from '../../checks/kinds.js'
import { option, type Values } from '../../checks/options.js'
import { invalidArgument } from '../../errors.js'
import { NoiseSchedule, noiseScheduleOptions } from '../noise_schedule.js'
import { roundHalfEven } from '../numeric.js'
import { cumulativeLevel } from '../prediction.js'
import { OUTPUT, type ProgramBuilder, SAMPLE, type Term } from '../program.js'
import { type Carried, ConfiguredScheduler, type Run, writeStart } from '../scheduler.js'
import { spacedTimesteps, spacingOptions } from '../spacing.js'

const options = {
  ...noiseScheduleOptions(),
  ...spacingOptions('leading'),
  skip_prk_steps: option(flag, false),
  set_alpha_to_one: option(flag, false),
  prediction_type: option(choice(['epsilon', 'v_prediction']), 'epsilon'),
}

export type PNDMConfig = Values<typeof options>

/**
 * Pseudo numerical methods for diffusion models: Liu et al. 2022, https://arxiv.org/abs/2202.09778. With
 * `skip_prk_steps` the linear multistep method (PLMS) runs from the start, with one call more than steps. Without it, three
 * Runge–Kutta steps of four calls come first.
 */
export class PNDMScheduler extends ConfiguredScheduler<typeof options> {
  readonly #schedule: NoiseSchedule

  constructor(given: Partial<PNDMConfig> = {}, carried: Carried = {}) {
    super('PNDMScheduler', options, given, carried)
    this.#schedule = new NoiseSchedule(this.settings)
  }

  protected write(builder: ProgramBuilder, run: Run): void {
    const { steps } = run
    const config = this.settings
    const total = this.#schedule.length
    const stride = Math.floor(total / steps)
    const timesteps = spacedTimesteps(config.timestep_spacing, total, steps, config.steps_offset).map(
      roundHalfEven,
    )
    // The timestep of the first step's second call is also that of the second step.
    const calls = timesteps
      .flatMap((timestep, i) => (i === 1 ? [timestep, timestep] : [timestep]))
      .slice(run.first)
    const level = cumulativeLevel(this.#schedule.alphaCumprodAt(calls[0] as number))
    const start = builder.register()
    writeStart(builder, run, level)
    if (config.skip_prk_steps) {
      this.#startMultistep(builder, calls, stride, start)
    } else {
      if (run.first > 0) throw invalidArgument('strength', '1 if skip_prk_steps is false', run.first / steps)
      if (steps < 4) throw invalidArgument('steps', 'at least 4 if skip_prk_steps is false', steps)
      this.#startRungeKutta(builder, timesteps, stride, start)
    }
  }

  /** Runs the first step twice: with its first slope, then with the mean of the slopes at its two ends. */
  #startMultistep(builder: ProgramBuilder, calls: readonly number[], stride: number, start: number): void {
    const history = Array.from({ length: 4 }, () => builder.register())
    const first = calls[0] as number
    builder.combine(start, [[SAMPLE, 1]])
    builder.call(first).combine(history[0] as number, [[OUTPUT, 1]])
    this.#move(builder, SAMPLE, first, first - stride, [[OUTPUT, 1]])
    const second = calls[1]
    if (second === undefined) return
    builder.call(second)
    this.#move(builder, start, second + stride, second, [
      [OUTPUT, 1 / 2],
      [history[0] as number, 1 / 2],
    ])
    this.#multistep(builder, calls.slice(2), stride, history, 1)
  }

  /** Three steps of the classic fourth-order Runge–Kutta method. The middle slopes are at half the stride. */
  #startRungeKutta(
    builder: ProgramBuilder,
    timesteps: readonly number[],
    stride: number,
    start: number,
  ): void {
    const history = Array.from({ length: 4 }, () => builder.register())
    const sum = builder.register()
    const half = Math.floor(stride / 2)
    for (let step = 0; step < 3; step++) {
      const from = timesteps[step] as number
      const to = timesteps[step + 1] as number
      builder.combine(start, [[SAMPLE, 1]])
      builder.call(from).combine(history[step] as number, [[OUTPUT, 1]])
      builder.combine(sum, [[OUTPUT, 1 / 6]])
      this.#move(builder, start, from, from - half, [[OUTPUT, 1]])
      for (const next of [to + half, to]) {
        builder.call(to + half).combine(sum, [
          [sum, 1],
          [OUTPUT, 1 / 3],
        ])
        this.#move(builder, start, from, next, [[OUTPUT, 1]])
      }
      builder.call(to)
      this.#move(builder, start, from, to, [
        [sum, 1],
        [OUTPUT, 1 / 6],
      ])
    }
    this.#multistep(builder, timesteps.slice(3), stride, history, 3)
  }

  /** Adams–Bashforth over the last outputs: equation 12. `history` already contains `known` outputs. */
  #multistep(
    builder: ProgramBuilder,
    timesteps: readonly number[],
    stride: number,
    history: readonly number[],
    known: number,
  ): void {
    const weights = [
      [],
      [1],
      [3 / 2, -1 / 2],
      [23 / 12, -16 / 12, 5 / 12],
      [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ]
    timesteps.forEach((timestep, i) => {
      const newest = known + i
      builder.call(timestep).combine(history[newest % 4] as number, [[OUTPUT, 1]])
      const blend = weights[Math.min(newest + 1, 4)] as readonly number[]
      const slope = blend.map((weight, back): Term => [history[(newest - back) % 4] as number, weight])
      this.#move(builder, SAMPLE, timestep, timestep - stride, slope)
    })
  }

  /** Equation 11: sample ← `from`, moved from `timestep` to `next` along the predicted noise. */
  #move(
    builder: ProgramBuilder,
    from: number,
    timestep: number,
    next: number,
    prediction: readonly Term[],
  ): void {
    const schedule = this.#schedule
    const alpha = schedule.alphaCumprodAt(timestep)
    const alphaNext = schedule.alphaCumprodAt(
      next,
      this.settings.set_alpha_to_one ? 1 : schedule.alphaCumprodAt(0),
    )
    const slope =
      -(alphaNext - alpha) / (alpha * Math.sqrt(1 - alphaNext) + Math.sqrt(alpha * (1 - alpha) * alphaNext))
    const velocity = this.settings.prediction_type === 'v_prediction'
    const ofPrediction = velocity ? slope * Math.sqrt(alpha) : slope
    const ofSample = Math.sqrt(alphaNext / alpha) + (velocity ? slope * Math.sqrt(1 - alpha) : 0)
    builder.combine(SAMPLE, [
      [from, ofSample],
      ...prediction.map(([register, weight]): Term => [register, weight * ofPrediction]),
    ])
  }
}
