import type { Values } from '../checks/options.js'
import { conflict, invalidArgument } from '../errors.js'
import { makeConfig, pickSettings, type SchedulerOptions, writtenValues } from './config.js'
import { type DenoisingProgram, ProgramBuilder, SAMPLE } from './program.js'

/** What turns a number of steps into a {@link DenoisingProgram}. A solver of one's own only has to be one of these. */
export interface Scheduler {
  /** The class name, as published checkpoints write it: `DPMSolverMultistepScheduler`. */
  readonly name: string
  /** Every option and its value, under the published names: what `scheduler_config.json` holds. */
  readonly config: Readonly<Record<string, unknown>>
  /** Pure: the same steps and options give the same program. */
  program(steps: number, options?: ProgramOptions): DenoisingProgram
}

export interface ProgramOptions {
  /**
   * How much fresh noise a step adds, 0 (none, the default) to 1: η of DDIM (Song et al. 2020, equation 16) and γ of TCD.
   * Other schedulers have no use for it.
   */
  eta?: number | undefined
  /**
   * Start from latents, not from noise: the program first adds noise to them, of the level of its first step, and takes
   * the last `steps · strength` steps, rounded down. Above 0, at most 1.
   *
   * The first steps of LMS and PNDM are the reference's here, too, and less exact than they could be: LMS takes the order
   * that it would have had by then, and PNDM leaves out calls, of which its first step has two.
   */
  strength?: number | undefined
  /**
   * The timesteps to call the network at, falling, one for each step. For DDPM, DPMSolverMultistep, DPMSolverSinglestep,
   * Euler, Heun, LCM and TCD, where no rule of the config spreads the σ.
   */
  timesteps?: readonly number[] | undefined
  /** σ at each step, falling, and at the end, which is mostly 0. For Euler, and for UniPC with `use_flow_sigmas`. */
  sigmas?: readonly number[] | undefined
}

/** What a program is written for: {@link ProgramOptions}, checked. */
export interface Run {
  readonly steps: number
  readonly eta: number
  /** The first step to take. */
  readonly first: number
  /** The sample starts as latents, and not as noise. */
  readonly fromLatents: boolean
  readonly timesteps: readonly number[] | undefined
  readonly sigmas: readonly number[] | undefined
}

/** How many of `steps` are taken from latents. */
export function stepsTaken(steps: number, strength: number): number {
  return Math.min(Math.trunc(steps * strength), steps)
}

/** The written values that another class's config hands on. */
export type Carried = Readonly<Record<string, unknown>>

/** What the schedulers here share: a checked config, and the checks of `program`. */
export abstract class ConfiguredScheduler<O extends SchedulerOptions> implements Scheduler {
  /** Every option and its value, and values that only another class has a use for. */
  readonly config: Values<O>
  /** The values this class has a use for. */
  protected readonly settings: Values<O>

  protected constructor(
    readonly name: string,
    options: O,
    given: object,
    carried: Carried,
  ) {
    this.config = makeConfig(name, options, given, carried)
    this.settings = pickSettings(options, this.config)
  }

  /**
   * A scheduler of this class from the config of any class: the content of a `scheduler_config.json`, or the `config` of
   * another scheduler. Values that were written down are kept; values that were only the other class's defaults are not:
   * this class has its own. Keys that are no option of this class are not used, but stay in the new `config`.
   * `overrides` come before both.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT` that names the option, for a value which this class does not take.
   */
  static fromConfig<S, G extends object>(
    this: new (
      given?: G,
      carried?: Carried,
    ) => S,
    config: object,
    overrides?: G,
  ): S {
    if (typeof config !== 'object' || config === null || Array.isArray(config)) {
      throw invalidArgument('config', "an object: a scheduler's config", config)
    }
    return new this(overrides, writtenValues(config))
  }

  /** What a caller may give in place of the config's own spacing. */
  protected readonly takes: readonly ('timesteps' | 'sigmas')[] = []

  /**
   * The program of a run of `steps` steps.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT` for an option out of range, or of no use to this scheduler
   */
  program(steps: number, options: ProgramOptions = {}): DenoisingProgram {
    const { eta = 0, strength, timesteps, sigmas } = options
    const most = this.settings.num_train_timesteps as number
    if (!Number.isInteger(steps) || steps < 1 || steps > most) {
      throw invalidArgument('steps', `an integer from 1 to ${most}`, steps)
    }
    if (typeof eta !== 'number' || !(eta >= 0 && eta <= 1)) {
      throw invalidArgument('eta', 'a number from 0 to 1', eta)
    }
    const taken = strength === undefined ? steps : stepsTaken(steps, strength)
    if (strength !== undefined && !(strength <= 1 && taken >= 1)) {
      throw invalidArgument('strength', `a number from 1 / steps (${1 / steps}) to 1`, strength)
    }
    if (timesteps !== undefined) this.#checkTimesteps(timesteps, steps, sigmas)
    if (sigmas !== undefined) this.#checkSigmas(sigmas, steps)
    const builder = new ProgramBuilder()
    const fromLatents = strength !== undefined
    this.write(builder, { steps, eta, first: steps - taken, fromLatents, timesteps, sigmas })
    return builder.build()
  }

  protected abstract write(builder: ProgramBuilder, run: Run): void

  #checkTimesteps(timesteps: readonly number[], steps: number, sigmas: readonly number[] | undefined): void {
    this.#checkTakes('timesteps', timesteps)
    if (sigmas !== undefined) throw conflict('timesteps', 'sigmas', timesteps)
    const { num_train_timesteps, ...config } = this.settings
    const last = (num_train_timesteps as number) - 1
    const fits = (value: number, i: number) =>
      Number.isInteger(value) && value >= 0 && value <= last && value < (timesteps[i - 1] ?? Infinity)
    if (!Array.isArray(timesteps) || timesteps.length !== steps || !timesteps.every(fits)) {
      throw invalidArgument(
        'timesteps',
        `${steps} falling integers from ${last} to 0, one for each step`,
        timesteps,
      )
    }
    const rule = spacingRules.find((name) => (config as Record<string, unknown>)[name] === true)
    if (rule) throw conflict('timesteps', rule, timesteps)
  }

  #checkSigmas(sigmas: readonly number[], steps: number): void {
    this.#checkTakes('sigmas', sigmas)
    const fits = (value: number, i: number) =>
      Number.isFinite(value) && value >= 0 && value < (sigmas[i - 1] ?? Infinity)
    if (Array.isArray(sigmas) && sigmas.length === steps + 1 && sigmas.every(fits)) return
    throw invalidArgument(
      'sigmas',
      `${steps + 1} falling numbers, one for each step and one for the end`,
      sigmas,
    )
  }

  #checkTakes(option: 'timesteps' | 'sigmas', value: unknown): void {
    if (!this.takes.includes(option)) throw conflict(option, this.name, value)
  }
}

/** Options that decide on the timesteps. */
const spacingRules = [
  'use_karras_sigmas',
  'use_exponential_sigmas',
  'use_beta_sigmas',
  'use_lu_lambdas',
  'use_flow_sigmas',
]

/**
 * Where a run starts from latents: adds noise to them, sample ← alpha · sample + sigma · noise. Where it starts from
 * noise: scales it, by `initial` = the first step's own deviation.
 */
export function writeStart(
  builder: ProgramBuilder,
  { fromLatents }: Run,
  { alpha, sigma }: { readonly alpha: number; readonly sigma: number },
  initial = 1,
): void {
  if (fromLatents) {
    const noise = builder.register()
    builder.noise(noise).combine(SAMPLE, [
      [SAMPLE, alpha],
      [noise, sigma],
    ])
  } else if (initial !== 1) {
    builder.combine(SAMPLE, [[SAMPLE, initial]])
  }
}
