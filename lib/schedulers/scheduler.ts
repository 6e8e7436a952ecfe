import type { Values } from '../checks/options.js'
import { conflict, invalidArgument, requires } from '../errors.js'
import { makeConfig, pickSettings, type SchedulerOptions, writtenValues } from './config.js'
import { checkFlowPrediction, impliedPrediction } from './flow.js'
import { type DenoisingProgram, ProgramBuilder, SAMPLE } from './program.js'

/** Makes a {@link DenoisingProgram} for a number of steps. Implement this interface to use your own solver. */
export interface Scheduler {
  /** The class name, as in published checkpoints: `DPMSolverMultistepScheduler`. */
  readonly name: string
  /** Every option and its value, with the published names: the content of `scheduler_config.json`. */
  readonly config: Readonly<Record<string, unknown>>
  /** Pure: the same steps and options give the same program. */
  program(steps: number, options?: ProgramOptions): DenoisingProgram
}

export interface ProgramOptions {
  /**
   * How much fresh noise a step adds, from 0 (none, the default) to 1: η of DDIM (Song et al. 2020, equation 16) and γ of
   * TCD. Other schedulers ignore it.
   */
  eta?: number | undefined
  /**
   * Start from latents instead of noise. The program first adds noise to them, at the level of its first step, and runs
   * only the last `steps · strength` steps, rounded down. Above 0, at most 1.
   *
   * LMS and PNDM start as the reference does, which is less exact than possible: LMS uses the order that it would have
   * reached by then, and PNDM leaves out calls, not steps (its first step has two calls).
   */
  strength?: number | undefined
  /**
   * The timesteps at which the network is called, falling, one per step. For DDPM, DPMSolverMultistep, DPMSolverSinglestep,
   * Euler, FlowMatchEuler, Heun, LCM and TCD, unless the config has a rule for the σ.
   */
  timesteps?: readonly number[] | undefined
  /** σ at each step, falling, and at the end (usually 0). For Euler, FlowMatchEuler, and UniPC with `use_flow_sigmas`. */
  sigmas?: readonly number[] | undefined
  /**
   * For a config with `use_dynamic_shifting`: μ, where e^μ is the shift of a flow's σ. With `time_shift_type` "linear" μ is
   * the shift itself.
   */
  mu?: number | undefined
}

/** {@link ProgramOptions} after the check, for `write`. */
export interface Run {
  readonly steps: number
  readonly eta: number
  /** The index of the first step to run. */
  readonly first: number
  /** The sample starts as latents, not as noise. */
  readonly fromLatents: boolean
  readonly timesteps: readonly number[] | undefined
  readonly sigmas: readonly number[] | undefined
  readonly mu: number | undefined
}

/**
 * How many of `steps` run when the sample starts from latents.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` if none would run
 */
export function stepsTaken(steps: number, strength: number): number {
  const taken = Math.trunc(steps * strength)
  if (strength <= 1 && taken >= 1) return taken
  throw invalidArgument('strength', `a number from 1 / steps (${1 / steps}) to 1`, strength)
}

/** Values that were written in another class's config. */
export type Carried = Readonly<Record<string, unknown>>

/** The base class of all schedulers here: a checked config, and the checks of `program`. */
export abstract class ConfiguredScheduler<O extends SchedulerOptions> implements Scheduler {
  /** Every option and its value, and values that only other classes use. */
  readonly config: Values<O>
  /** The values that this class uses. */
  protected readonly settings: Values<O>

  protected constructor(
    readonly name: string,
    options: O,
    given: object,
    carried: Carried,
  ) {
    checkFlowPrediction(name, { ...carried, ...given })
    this.config = makeConfig(name, options, given, carried)
    this.settings = pickSettings(options, this.config)
  }

  /**
   * Makes a scheduler of this class from the config of any class: the content of a `scheduler_config.json`, or the
   * `config` of another scheduler. Values that were written in the config are kept. Values that were only defaults of the
   * other class are replaced by this class's defaults. Keys that are not options of this class are not used, but stay in
   * the new `config`. `overrides` take precedence.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT` with the name of an option whose value this class does not accept
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
    return new this(overrides, { ...impliedPrediction(config), ...writtenValues(config) })
  }

  /** The options with which a caller may replace the config's spacing. */
  protected readonly takes: readonly ('timesteps' | 'sigmas' | 'mu')[] = []

  /** Whether timesteps are any numbers up to T, not only the whole ones below it. */
  protected readonly fractional: boolean = false

  /**
   * Makes the program of a run of `steps` steps.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT` for an option that is out of range or not supported by this scheduler
   */
  program(steps: number, options: ProgramOptions = {}): DenoisingProgram {
    const { eta = 0, strength, timesteps, sigmas, mu } = options
    const most = this.settings.num_train_timesteps as number
    if (!Number.isInteger(steps) || steps < 1 || steps > most) {
      throw invalidArgument('steps', `an integer from 1 to ${most}`, steps)
    }
    if (typeof eta !== 'number' || !(eta >= 0 && eta <= 1)) {
      throw invalidArgument('eta', 'a number from 0 to 1', eta)
    }
    const taken = strength === undefined ? steps : stepsTaken(steps, strength)
    if (timesteps !== undefined) this.#checkTimesteps(timesteps, steps, sigmas)
    if (sigmas !== undefined) this.#checkSigmas(sigmas, steps)
    if (mu !== undefined) this.#checkMu(mu)
    const builder = new ProgramBuilder()
    const fromLatents = strength !== undefined
    this.write(builder, { steps, eta, first: steps - taken, fromLatents, timesteps, sigmas, mu })
    return builder.build()
  }

  protected abstract write(builder: ProgramBuilder, run: Run): void

  #checkTimesteps(timesteps: readonly number[], steps: number, sigmas: readonly number[] | undefined): void {
    this.#checkTakes('timesteps', timesteps)
    if (sigmas !== undefined) throw conflict('timesteps', 'sigmas', timesteps)
    const { num_train_timesteps, ...config } = this.settings
    const last = (num_train_timesteps as number) - (this.fractional ? 0 : 1)
    const kind = this.fractional ? Number.isFinite : Number.isInteger
    const fits = (value: number, i: number) =>
      kind(value) && value >= 0 && value <= last && value < (timesteps[i - 1] ?? Infinity)
    if (!Array.isArray(timesteps) || timesteps.length !== steps || !timesteps.every(fits)) {
      throw invalidArgument(
        'timesteps',
        `${steps} falling ${this.fractional ? 'numbers' : 'integers'} from ${last} to 0, one per step`,
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
    throw invalidArgument('sigmas', `${steps + 1} falling numbers, one per step and one for the end`, sigmas)
  }

  #checkMu(mu: number): void {
    this.#checkTakes('mu', mu)
    const { use_dynamic_shifting, time_shift_type } = this.settings as Record<string, unknown>
    if (use_dynamic_shifting !== true) {
      throw requires('mu', 'a config that sets use_dynamic_shifting', mu)
    }
    const least = time_shift_type === 'linear' ? 0 : -Infinity
    if (!Number.isFinite(mu) || mu <= least) {
      throw invalidArgument('mu', time_shift_type === 'linear' ? 'a number above 0' : 'a number', mu)
    }
  }

  #checkTakes(option: 'timesteps' | 'sigmas' | 'mu', value: unknown): void {
    if (!this.takes.includes(option)) throw conflict(option, this.name, value)
  }
}

/** Options that determine the timesteps. */
const spacingRules = [
  'use_karras_sigmas',
  'use_exponential_sigmas',
  'use_beta_sigmas',
  'use_lu_lambdas',
  'use_flow_sigmas',
]

/**
 * Brings the sample to the level of the first step. Latents get noise: sample ← alpha · sample + sigma · noise. Noise is
 * scaled by `initial`, the standard deviation at the first step.
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
