import { checkValue } from '../checks/kinds.js'
import type { Option, Values } from '../checks/options.js'
import { suggestion } from '../checks/suggestion.js'
import { TorchreelError } from '../errors.js'

/** A scheduler's options by their published names: each has a default. */
export type SchedulerOptions = Readonly<Record<string, Required<Option>>>

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
export function makeConfig<O extends SchedulerOptions>(
  className: string,
  options: O,
  given: object,
  carried: Readonly<Record<string, unknown>>,
): Values<O> {
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
      written[key] = checkValue(option.kind, key, written[key])
    } else {
      defaults[key] = option.default
    }
  }
  return Object.freeze({
    ...written,
    ...defaults,
    [defaulted]: Object.freeze(defaults),
  }) as unknown as Values<O>
}

/**
 * The values of a config that its class has a use for: its options, and limits of σ, which every class that spreads its σ
 * by a rule heeds when another class's config brings them.
 */
export function pickSettings<O extends SchedulerOptions>(options: O, config: Values<O>): Values<O> {
  const limits = ['sigma_min', 'sigma_max']
  return Object.fromEntries(
    Object.entries(config).filter(([key]) => Object.hasOwn(options, key) || limits.includes(key)),
  ) as Values<O>
}

function definedValues(values: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}
