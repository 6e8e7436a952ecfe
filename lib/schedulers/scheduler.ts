import { invalidArgument } from '../errors.js'
import { type DenoisingProgram, ProgramBuilder } from '../program.js'
import { type ConfigOf, makeConfig, type Options, pickSettings, writtenValues } from './config.js'

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
  eta?: number
}

/** The written values that another class's config hands on. */
export type Carried = Readonly<Record<string, unknown>>

/** What the schedulers here share: a checked config, and the checks of `program`. */
export abstract class ConfiguredScheduler<O extends Options> implements Scheduler {
  /** Every option and its value, and values that only another class has a use for. */
  readonly config: ConfigOf<O>
  /** The values this class has a use for. */
  protected readonly settings: ConfigOf<O>

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

  /**
   * The program of a run of `steps` steps.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT` for steps or an eta out of range.
   */
  program(steps: number, { eta = 0 }: ProgramOptions = {}): DenoisingProgram {
    const most = this.settings.num_train_timesteps as number
    if (!Number.isInteger(steps) || steps < 1 || steps > most) {
      throw invalidArgument('steps', `an integer from 1 to ${most}`, steps)
    }
    if (typeof eta !== 'number' || !(eta >= 0 && eta <= 1)) {
      throw invalidArgument('eta', 'a number from 0 to 1', eta)
    }
    const builder = new ProgramBuilder()
    this.write(builder, steps, eta)
    return builder.build()
  }

  protected abstract write(builder: ProgramBuilder, steps: number, eta: number): void
}
