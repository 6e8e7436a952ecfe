import { invalidArgument, TorchreelError } from '../errors.js'
import { checkValue, type JsonSchema, type Kind } from './kinds.js'
import { suggestion } from './suggestion.js'

/** One option: which values it takes, and the one that is used where none is given. */
export interface Option<T = unknown> {
  readonly kind: Kind<T>
  readonly default?: T
}

/** Options by their names. */
export type Options = Readonly<Record<string, Option>>

/** The values of options after their check: undefined only where there is no default. */
export type Values<O> = {
  readonly [K in keyof O]: O[K] extends { readonly kind: Kind<infer T> }
    ? O[K] extends { readonly default: unknown }
      ? T
      : T | undefined
    : never
}

/** An option with all that people and programs want to know of it: its one description. */
export interface DescribedOption<T = unknown> extends Option<T> {
  /** What it does, as the end of "NAME: …". Plain text. */
  readonly says: string
  /** The heading that it stands under in the documents and in the help. */
  readonly group: string
  /** The default in words, where it depends on something. */
  readonly otherwise?: string
  /** The unit of its numbers. */
  readonly unit?: string
  /** How the command line writes it, as the help shows it: `--steps <n>`. Without: it cannot. */
  readonly flag?: string
  /** What the help says where a flag stands for a fixed value, as `--no-metadata` does. */
  readonly flagSays?: string
  /** The flag may be given several times; the option's value is the array of its values. */
  readonly repeats?: boolean
  /**
   * How a video's `settings` keep it where it is not at its default: its value, or only its name because the value is large.
   * Without: not at all.
   */
  readonly kept?: 'value' | 'name'
  /** The page of docs/ that says more, and the words that lead there. */
  readonly see?: readonly [words: string, page: string]
}

/**
 * The table of a documented interface of options. TypeScript refuses a table that lacks one of the interface's names, has one
 * more, or has values of another type.
 */
export type TableOf<Interface> = {
  readonly [K in keyof Interface]-?: DescribedOption<Exclude<Interface[K], undefined>>
}

/** Any table of options. */
export type Table = Readonly<Record<string, DescribedOption>>

/** The JSON Schema of an object with these options; those that JSON cannot hold are not in it. */
export function schemaOf(table: Table, required: readonly string[] = []): JsonSchema {
  const properties = Object.entries(table).flatMap(([name, { kind, says, unit, default: value }]) => {
    if (!kind.schema) return []
    const description = unit === undefined ? says : `${says} (${unit})`
    return [[name, { ...kind.schema, description, ...(value !== undefined && { default: value }) }] as const]
  })
  return {
    type: 'object',
    properties: Object.fromEntries(properties),
    ...(required.length > 0 && { required }),
    additionalProperties: false,
  }
}

/** An option with a default. */
export function option<T>(kind: Kind<T>, value: NoInfer<T>): { readonly kind: Kind<T>; readonly default: T } {
  return { kind, default: value }
}

/**
 * Reads each option once: its value checked, else its default.
 *
 * @param within what stands before the names in messages, such as `window.`
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function checkOptions<O extends Options>(options: object, table: O, within = ''): Values<O> {
  refuseUnknown(options, Object.keys(table), within)
  const values: Record<string, unknown> = {}
  for (const [name, { kind, default: otherwise }] of Object.entries(table)) {
    const value = (options as Record<string, unknown>)[name]
    values[name] = value === undefined ? otherwise : checkValue(kind, `${within}${name}`, value)
  }
  return values as Values<O>
}

/**
 * Refuses a value that is not an object, or has an unknown name.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function refuseUnknown(options: object, known: readonly string[], within = ''): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalidArgument(within.replace(/\.$/, '') || 'options', 'an object', options)
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    throw new TorchreelError(
      'ERR_INVALID_ARGUMENT',
      `there is no option ${within}${name}${suggestion(name, known)}`,
      {
        parameter: `${within}${name}`,
        expected: known.join(', '),
        received: name,
      },
    )
  }
}
