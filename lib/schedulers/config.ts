import { suggestion } from '../checks/suggestion.js'
import { invalidArgument, TorchreelError } from '../errors.js'

/** One option of a scheduler: its default, and which values it takes. */
export interface Option<T> {
  readonly default: T
  /** What is accepted, in words. */
  readonly expected: string
  /** The value to use for the one given, or undefined where that is not accepted. */
  readonly read: (value: unknown) => T | undefined
}

/** The options of a scheduler class by their published names. */
export type Options = Readonly<Record<string, Option<unknown>>>

/** The values of all options. */
export type ConfigOf<O> = { readonly [K in keyof O]: O[K] extends Option<infer T> ? T : never }

export function flag(value: boolean): Option<boolean> {
  return {
    default: value,
    expected: 'true or false',
    read: (given) => (typeof given === 'boolean' ? given : undefined),
  }
}

export function number(value: number, min = -Infinity, max = Infinity): Option<number> {
  return {
    default: value,
    expected: bounds('a number', min, max),
    read: (given) =>
      typeof given === 'number' && !Number.isNaN(given) && given >= min && given <= max ? given : undefined,
  }
}

export function integer(value: number, min: number, max: number): Option<number> {
  return {
    default: value,
    expected: bounds('an integer', min, max),
    read: (given) =>
      Number.isInteger(given) && (given as number) >= min && (given as number) <= max
        ? (given as number)
        : undefined,
  }
}

/**
 * One of some names. `synonyms` are names of other schedulers' values which stand for one of these, so that a config
 * can be handed from class to class.
 */
export function choice<const T extends string>(
  value: T,
  values: readonly T[],
  synonyms: Readonly<Record<string, T>> = {},
): Option<T> {
  return {
    default: value,
    expected:
      values.length === 1 ? `"${values[0]}"` : `one of ${values.map((name) => `"${name}"`).join(', ')}`,
    read: (given) =>
      typeof given !== 'string'
        ? undefined
        : (values.find((name) => name === given) ??
          (Object.hasOwn(synonyms, given) ? synonyms[given] : undefined)),
  }
}

export function list<T>(item: Option<T>): Option<readonly T[]> {
  return {
    default: [],
    expected: `an array, each ${item.expected}`,
    read: (given) => {
      if (!Array.isArray(given)) return undefined
      const items = given.map(item.read)
      return items.every((read) => read !== undefined) ? Object.freeze(items as T[]) : undefined
    },
  }
}

/** Null, the default, or a value of the option. */
export function nullable<T>(option: Option<T>): Option<T | null> {
  return {
    default: null,
    expected: `null or ${option.expected}`,
    read: (given) => (given === null ? null : option.read(given)),
  }
}

function bounds(what: string, min: number, max: number): string {
  if (min === -Infinity && max === Infinity) return what
  return max === Infinity ? `${what} of at least ${min}` : `${what} from ${min} to ${max}`
}

/**
 * Under this key a config remembers the values that nobody wrote: they are defaults of its class, and another class
 * made from this config takes its own defaults instead. The key is an enumerable symbol, so a copy by spread keeps it.
 */
const defaulted = Symbol('torchreel.defaulted')

/** The values of a config that somebody wrote: into a file, or into a constructor. */
export function writtenValues(config: object): Record<string, unknown> {
  const defaults = (config as { [defaulted]?: Readonly<Record<string, unknown>> })[defaulted] ?? {}
  return Object.fromEntries(
    Object.entries(config).filter(
      ([key, value]) => !key.startsWith('_') && !(Object.hasOwn(defaults, key) && defaults[key] === value),
    ),
  )
}

/**
 * A frozen config: for every option the value given, else the value `carried` from another config, else its default.
 * What is carried and no option of this class stays in the config, for the next class.
 */
export function makeConfig<O extends Options>(
  className: string,
  options: O,
  given: object,
  carried: Readonly<Record<string, unknown>>,
): ConfigOf<O> {
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || Object.hasOwn(options, key)) continue
    throw new TorchreelError(
      'ERR_INVALID_ARGUMENT',
      `${className} has no option "${key}"${suggestion(key, Object.keys(options))}`,
      { parameter: key, expected: `one of ${Object.keys(options).join(', ')}`, received: value },
    )
  }
  const written: Record<string, unknown> = { ...carried, ...definedValues(given) }
  const defaults: Record<string, unknown> = {}
  for (const [key, option] of Object.entries(options)) {
    if (Object.hasOwn(written, key)) {
      const value = option.read(written[key])
      if (value === undefined) throw invalidArgument(key, option.expected, written[key])
      written[key] = value
    } else {
      defaults[key] = option.default
    }
  }
  return Object.freeze({
    ...written,
    ...defaults,
    [defaulted]: Object.freeze(defaults),
  }) as unknown as ConfigOf<O>
}

/**
 * The values of a config that its class has a use for: its options, and limits of σ, which every class that spreads its σ
 * by a rule heeds when another class's config brings them.
 */
export function pickSettings<O extends Options>(options: O, config: ConfigOf<O>): ConfigOf<O> {
  const limits = ['sigma_min', 'sigma_max']
  return Object.fromEntries(
    Object.entries(config).filter(([key]) => Object.hasOwn(options, key) || limits.includes(key)),
  ) as ConfigOf<O>
}

function definedValues(values: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}
