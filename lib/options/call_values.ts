import { checkSeed } from '../addon/generator.js'
import {
  anyText,
  type Check,
  integer,
  type Numbers,
  number,
  numbersOf,
  reader,
  sideOf,
} from '../checks/checks.js'
import { invalidArgument } from '../errors.js'
import { type Scheduler, schedulerFrom, schedulerNames } from '../schedulers/index.js'
import type { FreeU } from './call.js'
import { assertWithin, type Limits } from './limits.js'
import type { ModelLimits } from './sizes.js'

// Checks of values that only a call of `generate` has.

/** A prompt, or several, each no longer than it may be. */
export function promptTexts(prompt: unknown, limits: Limits): string[] {
  if (Array.isArray(prompt)) assertWithin(limits.prompts, prompt.length, 'prompt', 'prompts')
  const prompts: unknown[] = Array.isArray(prompt) ? [...prompt] : [prompt]
  if (prompts.length === 0)
    throw invalidArgument('prompt', 'a string or a non-empty array of strings', prompt)
  return prompts.map((one) => promptWithin(limits)('prompt', one))
}

export function promptWithin({ promptLength }: Limits): Check<string> {
  return (name, value) => {
    const text = anyText(name, value)
    assertWithin(promptLength, text.length, name, 'characters')
    return text
  }
}

export function promptsOf(prompt: unknown, embeds: Numbers | undefined, limits: Limits): string[] {
  if (!embeds) return promptTexts(prompt, limits)
  if (prompt === undefined) return []
  throw invalidArgument('prompt', 'undefined where promptEmbeds are given', prompt)
}

export const seed: Check<number> = (_name, value) => {
  checkSeed(value)
  return value
}

export const scheduler: Check<Scheduler | string> = (name, value) => {
  if (typeof value === 'string') {
    if (value !== 'checkpoint') schedulerFrom(value, {}) // refuses a name that there is not
    return value
  }
  if (typeof (value as Scheduler | null)?.program === 'function') return value as Scheduler
  throw invalidArgument(name, `a scheduler, 'checkpoint', or one of ${schedulerNames.join(', ')}`, value)
}

/** One value for all of `count`, or a list with one for each. One value is repeated `repeat` times. */
export function each<T>(name: string, count: number, check: Check<T>, repeat = count): Check<T[]> {
  return (_name, value) => {
    if (!Array.isArray(value)) return new Array<T>(repeat).fill(check(name, value))
    if (value.length === count) return value.map((one) => check(name, one))
    throw invalidArgument(name, `one, or ${count} as there are videos`, value)
  }
}

export function perStep(steps: number, check: Check<number>): Check<number | number[]> {
  return (name, value) => {
    if (!Array.isArray(value)) return check(name, value)
    if (value.length === steps) return value.map((one) => check(name, one))
    throw invalidArgument(name, `a number, or ${steps} as there are steps`, value)
  }
}

export function negativeEmbeds(embeds: Numbers | undefined): Check<Numbers> {
  return (name, value) => {
    if (embeds) return numbersOf(embeds.shape)(name, value)
    throw invalidArgument(name, 'given together with promptEmbeds', value)
  }
}

/** s1, s2, b1, b2, all given. */
export const freeUOf: Check<FreeU> = (name, value) => {
  if (typeof value !== 'object' || value === null) throw invalidArgument(name, '{ s1, s2, b1, b2 }', value)
  reader(value, ['s1', 's2', 'b1', 'b2'])
  const { s1, s2, b1, b2 } = value as FreeU
  const factor = number(0, 10)
  return {
    s1: factor('freeU.s1', s1),
    s2: factor('freeU.s2', s2),
    b1: factor('freeU.b1', b1),
    b2: factor('freeU.b2', b2),
  }
}

export function numbers(min: number, max: number): Check<readonly number[]> {
  return (name, value) => {
    const fits = Array.isArray(value) && value.length >= min && value.length <= max
    if (fits && value.every(Number.isFinite)) return [...value]
    throw invalidArgument(name, `an array of ${min} to ${max} numbers`, value)
  }
}

/** From and to, fractions. */
export const intervalOf: Check<readonly [number, number]> = (name, value) => {
  const [from, to, ...more] = Array.isArray(value) ? (value as unknown[]) : []
  const fraction = number(0, 1)
  if (more.length === 0 && [from, to].every((end) => typeof end === 'number')) {
    const ends = [fraction(name, from), fraction(name, to)] as const
    if (ends[0] <= ends[1]) return ends
  }
  throw invalidArgument(name, '[from, to], two numbers from 0 to 1 that do not fall', value)
}

export const notWithVideo: Check<Numbers> = (name, value) => {
  throw invalidArgument(name, 'undefined where a video is given', value)
}

/** The side of a tile in pixels, and the fraction of it that tiles share. */
export interface Tiling {
  readonly tileSize: number
  readonly overlap: number
}

export function tilingOf({ vaeScale, tileSize }: ModelLimits): Check<Tiling | undefined> {
  return (name, value) => {
    if (value === false) return undefined
    const given = value === true ? {} : value
    if (typeof given !== 'object' || given === null) {
      throw invalidArgument(name, 'true, false, or { tileSize, overlap }', value)
    }
    const read = reader(given, ['tileSize', 'overlap'])
    return {
      tileSize: read('tileSize', tileSize, sideOf(vaeScale)),
      overlap: read('overlap', 0.25, number(0, 0.5)),
    }
  }
}

export const windowOf: Check<{ frames: number; overlap: number }> = (name, value) => {
  const given = typeof value === 'number' ? { frames: value } : value
  if (typeof given !== 'object' || given === null)
    throw invalidArgument(name, 'frames, or { frames, overlap }', value)
  const read = reader(given, ['frames', 'overlap'])
  const frames = read('frames', undefined, (_, given) => integer(1, 4096)('window.frames', given))
  if (frames === undefined) throw invalidArgument('window.frames', 'an integer from 1 to 4096', frames)
  return { frames, overlap: read('overlap', Math.floor(frames / 2), integer(0, frames - 1)) }
}
