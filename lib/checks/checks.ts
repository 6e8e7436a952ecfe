import { types } from 'node:util'
import { invalidArgument, TorchreelError } from '../errors.js'
import { readPath } from '../files/paths.js'
import { suggestion } from './suggestion.js'

/** Gives the value of an option with its type, or throws `ERR_INVALID_ARGUMENT` with its name. */
export type Check<T> = (name: string, value: unknown) => T

/** Reads each option once; refuses what is no plain object and names that are unknown. */
export function reader(options: object, known: readonly string[]) {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalidArgument('options', 'an object', options)
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    throw new TorchreelError('ERR_INVALID_ARGUMENT', `there is no option ${name}${suggestion(name, known)}`, {
      parameter: name,
      expected: known.join(', '),
      received: name,
    })
  }
  return <T, D extends T | undefined>(name: string, standard: D, check: Check<T>): T | D => {
    const value = (options as Record<string, unknown>)[name]
    return value === undefined ? standard : check(name, value)
  }
}

export const anyText: Check<string> = (name, value) => {
  if (typeof value === 'string') return value
  throw invalidArgument(name, 'a string', value)
}

export const text: Check<string> = (name, value) => {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value
  throw invalidArgument(name, 'a non-empty string', value)
}

export const fileNamePart: Check<string> = (name, value) => {
  if (typeof value === 'string' && /^\w+$/.test(value)) return value
  throw invalidArgument(name, "a word such as 'fp16'", value)
}

export const flag: Check<boolean> = (name, value) => {
  if (typeof value === 'boolean') return value
  throw invalidArgument(name, 'true or false', value)
}

export function number(min: number, max: number): Check<number> {
  return (name, value) => {
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw invalidArgument(name, `a number from ${min} to ${max}`, value)
  }
}

export function integer(min: number, max: number): Check<number> {
  return (name, value) => {
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max)
      return value as number
    throw invalidArgument(name, `an integer from ${min} to ${max}`, value)
  }
}

export function oneOf<const T extends string>(...words: T[]): Check<T> {
  return (name, value) => {
    if (words.includes(value as T)) return value as T
    throw invalidArgument(name, words.map((word) => `'${word}'`).join(' or '), value)
  }
}

/** A file or folder, as a path or a file URL. */
export const filePath: Check<string> = (name, value) => {
  const path = readPath(value)
  if (path !== undefined) return path
  throw invalidArgument(name, 'a path or a file URL', value)
}

/** A width or height in pixels. */
export function sideOf(scale: number): Check<number> {
  return (name, value) => {
    const pixels = integer(scale, 16384)(name, value)
    if (pixels % scale === 0) return pixels
    const nearest = Math.max(scale, Math.round(pixels / scale) * scale)
    throw invalidArgument(name, `a multiple of ${scale}, such as ${nearest}`, value)
  }
}

export const abortSignal: Check<AbortSignal> = (name, value) => {
  if (value instanceof AbortSignal) return value
  const { aborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>
  if (typeof aborted === 'boolean' && typeof addEventListener === 'function')
    return followed(value as AbortSignal)
  throw invalidArgument(name, 'an AbortSignal', value)
}

/** A signal that aborts with one of another realm, or of a polyfill, which this realm's functions would refuse. */
function followed(other: AbortSignal): AbortSignal {
  const controller = new AbortController()
  const abort = () => controller.abort(other.reason)
  if (other.aborted) abort()
  else other.addEventListener('abort', abort, { once: true })
  return controller.signal
}

/** Numbers with a shape, such as latents and embeddings. */
export interface Numbers {
  /** Row-major in `shape`. */
  readonly data: Float32Array
  readonly shape: readonly number[]
}

/** Numbers of a shape; null stands for a dimension of any size. */
export function numbersOf(shape: readonly (number | null)[]): Check<Numbers> {
  return (name, value) => {
    const { data, shape: given } = (value ?? {}) as Partial<Numbers>
    const fits =
      types.isFloat32Array(data) &&
      Array.isArray(given) &&
      given.length === shape.length &&
      given.every((size) => Number.isSafeInteger(size) && size > 0) &&
      shape.every((size, index) => size === null || size === given[index]) &&
      given.reduce((product, size) => product * size, 1) === data.length
    if (fits) return { data, shape: [...given] }
    const wanted = shape.map((size) => size ?? 'any').join(', ')
    throw invalidArgument(
      name,
      `{ data: Float32Array, shape: [${wanted}] }`,
      given ? { shape: given } : value,
    )
  }
}

/** A function of any kind. */
export function callback<F>(): Check<F> {
  return (name, value) => {
    if (typeof value === 'function') return value as F
    throw invalidArgument(name, 'a function', value)
  }
}
