import { invalidArgument } from '../errors.js'
import { readPath } from '../files/paths.js'

/** A JSON Schema (2020-12). */
export type JsonSchema = { readonly [keyword: string]: unknown }

/** A kind of value that an option accepts. One vocabulary for all options: of calls, files, adapters and schedulers. */
export interface Kind<T> {
  /** The accepted values in words: `an integer from 1 to 1000`. */
  readonly expected: string
  /** The accepted values that JSON can hold; undefined: none. */
  readonly schema?: JsonSchema | undefined
  /** Reads how a command line writes a value; undefined: as it is. Throws a SyntaxError that says what it must be. */
  readonly fromText?: ((text: string) => unknown) | undefined
  /**
   * The value to use for the one given, or undefined where that is not accepted.
   *
   * @param name of the option; a mistake inside of the value is thrown under a longer one, such as `window.frames`
   */
  read(value: unknown, name: string): T | undefined
}

/** @throws TorchreelError `ERR_INVALID_ARGUMENT` that names the option */
export function checkValue<T>(kind: Kind<T>, name: string, value: unknown): T {
  const read = kind.read(value, name)
  if (read === undefined) throw invalidArgument(name, kind.expected, value)
  return read
}

export const flag: Kind<boolean> = {
  expected: 'true or false',
  schema: { type: 'boolean' },
  read: (value) => (typeof value === 'boolean' ? value : undefined),
}

export function number(min = -Infinity, max = Infinity): Kind<number> {
  return {
    expected: withBounds('a number', min, max),
    schema: { type: 'number', ...bounds(min, max) },
    fromText: numberFromText,
    read: (value) => (typeof value === 'number' && value >= min && value <= max ? value : undefined),
  }
}

export const finite: Kind<number> = {
  ...number(),
  expected: 'a finite number',
  read: (value) => (Number.isFinite(value) ? (value as number) : undefined),
}

export function integer(min: number, max: number): Kind<number> {
  return {
    expected: withBounds('an integer', min, max),
    schema: { type: 'integer', ...bounds(min, max) },
    fromText: numberFromText,
    read: (value) =>
      Number.isInteger(value) && (value as number) >= min && (value as number) <= max
        ? (value as number)
        : undefined,
  }
}

/**
 * One of some words. `synonyms` are names of other schedulers' values which stand for one of these, so that a config can
 * be handed from class to class.
 */
export function choice<const T extends string>(
  words: readonly T[],
  synonyms: Readonly<Record<string, NoInfer<T>>> = {},
): Kind<T> {
  const quoted = words.map((word) => `'${word}'`)
  return {
    expected: [quoted.slice(0, -1).join(', '), ...quoted.slice(-1)].filter(Boolean).join(' or '),
    schema: { enum: words },
    read: (value) =>
      typeof value !== 'string'
        ? undefined
        : (words.find((word) => word === value) ??
          (Object.hasOwn(synonyms, value) ? synonyms[value] : undefined)),
  }
}

/** Any string, the empty one included. */
export const anyText: Kind<string> = {
  expected: 'a string',
  schema: { type: 'string' },
  read: (value) => (typeof value === 'string' ? value : undefined),
}

/** A name of something: not empty, and without the character that ends a name for the system. */
export const text: Kind<string> = {
  expected: 'a non-empty string',
  schema: { type: 'string', minLength: 1 },
  read: (value) => (typeof value === 'string' && value !== '' && !value.includes('\0') ? value : undefined),
}

/** Text of one form. */
export function matching(pattern: RegExp, expected: string): Kind<string> {
  return {
    expected,
    schema: { type: 'string', pattern: pattern.source },
    read: (value) => (typeof value === 'string' && pattern.test(value) ? value : undefined),
  }
}

/** An array, copied and frozen. */
export function list<T>(item: Kind<T>, min = 0, max = Infinity): Kind<readonly T[]> {
  const count = max < Infinity ? ` of ${min} to ${max}` : ''
  return {
    expected: `an array${count}, each ${item.expected}`,
    schema: item.schema && {
      type: 'array',
      items: item.schema,
      ...(min > 0 && { minItems: min }),
      ...(max < Infinity && { maxItems: max }),
    },
    fromText: (words) => words.split(',').map((word) => item.fromText?.(word) ?? word),
    read(value, name) {
      if (!Array.isArray(value) || value.length < min || value.length > max) return undefined
      const items = Array.from(value, (one) => item.read(one, name))
      return items.every((one) => one !== undefined) ? Object.freeze(items as T[]) : undefined
    },
  }
}

/** Null, or a value of the kind. */
export function nullable<T>(kind: Kind<T>): Kind<T | null> {
  return {
    expected: `null or ${kind.expected}`,
    schema: kind.schema && { anyOf: [{ type: 'null' }, kind.schema] },
    read: (value, name) => (value === null ? null : kind.read(value, name)),
  }
}

/** A value for everything, or an array with one for each. */
export function oneOrEach<T>(kind: Kind<T>, max = 1_000_000): Kind<T | readonly T[]> {
  const each = list(kind, 0, max)
  return {
    expected: `${kind.expected}, or an array of them`,
    schema: kind.schema && { anyOf: [kind.schema, { type: 'array', items: kind.schema, maxItems: max }] },
    fromText: kind.fromText && ((words) => (words.includes(',') ? each : kind).fromText?.(words)),
    read: (value, name) => (Array.isArray(value) ? each : kind).read(value, name),
  }
}

/** A file or folder: a path, `~` for the home, or a file URL. */
export const filePath: Kind<string> = {
  expected: 'a path or a file URL',
  schema: text.schema,
  read: (value) => readPath(value),
}

export const abortSignal: Kind<AbortSignal> = {
  expected: 'an AbortSignal',
  read(value) {
    if (value instanceof AbortSignal) return value
    const { aborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>
    if (typeof aborted !== 'boolean' || typeof addEventListener !== 'function') return undefined
    return followSignal(value as AbortSignal)
  },
}

/** A signal that aborts with one of another realm, or of a polyfill, which this realm's functions would refuse. */
function followSignal(other: AbortSignal): AbortSignal {
  const controller = new AbortController()
  const abort = () => controller.abort(other.reason)
  if (other.aborted) abort()
  else other.addEventListener('abort', abort, { once: true })
  return controller.signal
}

/** A function. Which arguments it takes cannot be seen. */
export function callback<F>(): Kind<F> {
  return {
    expected: 'a function',
    read: (value) => (typeof value === 'function' ? (value as F) : undefined),
  }
}

/** @throws SyntaxError */
export function numberFromText(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value)) throw new SyntaxError('It must be a number.')
  return value
}

function withBounds(noun: string, min: number, max: number): string {
  if (min === -Infinity && max === Infinity) return noun
  return max >= Number.MAX_SAFE_INTEGER ? `${noun} of at least ${min}` : `${noun} from ${min} to ${max}`
}

function bounds(min: number, max: number): JsonSchema {
  return { ...(min > -Infinity && { minimum: min }), ...(max < Infinity && { maximum: max }) }
}
