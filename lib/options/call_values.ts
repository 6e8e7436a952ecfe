import { checkValue, flag, integer, type Kind, list, number, numberFromText } from '../checks/kinds.js'
import { checkOptions, refuseUnknown, schemaOf, type Table } from '../checks/options.js'
import { invalidArgument } from '../errors.js'
import { type Scheduler, schedulerFrom, schedulerNames } from '../schedulers/index.js'

// Kinds of values that only a call of `generate` has.

/** A width or height in pixels; its model says of what it is a multiple. */
export const side = integer(1, 16384)

export const scheduler: Kind<Scheduler | string> = {
  expected: `a scheduler, 'checkpoint', or one of ${schedulerNames.join(', ')}`,
  schema: { enum: ['checkpoint', ...schedulerNames] },
  read(value) {
    if (typeof value !== 'string')
      return typeof (value as Scheduler | null)?.program === 'function' ? (value as Scheduler) : undefined
    if (value !== 'checkpoint') schedulerFrom(value, {}) // refuses an unknown name
    return value
  },
}

/**
 * The factors of FreeU (Si et al. 2023, https://arxiv.org/abs/2309.11497), which moves weight from the skips to the
 * backbone in the denoiser's first two up blocks, at almost no cost. 1 changes nothing.
 */
export interface FreeU {
  /** For the lowest frequencies of the skips into up block 0 and 1; usually at most 1, such as 0.9 and 0.2. */
  readonly s1: number
  readonly s2: number
  /** For the first half of the channels that these skips join; usually at least 1, such as 1.2 and 1.4. */
  readonly b1: number
  readonly b2: number
}

const factor = number(0, 10)
const factors = ['s1', 's2', 'b1', 'b2'] as const

/** All four factors; on a command line `s1,s2,b1,b2`. */
export const freeU: Kind<FreeU> = {
  expected: '{ s1, s2, b1, b2 }',
  schema: {
    type: 'object',
    properties: Object.fromEntries(factors.map((name) => [name, factor.schema])),
    required: factors,
    additionalProperties: false,
  },
  fromText(text) {
    const [s1, s2, b1, b2, ...more] = text.split(',').map(numberFromText)
    if (b2 === undefined || more.length > 0) throw new SyntaxError('It must be four numbers: s1,s2,b1,b2.')
    return { s1, s2, b1, b2 }
  },
  read(value, name) {
    if (typeof value !== 'object' || value === null) return undefined
    refuseUnknown(value, factors, `${name}.`)
    const { s1, s2, b1, b2 } = value as FreeU
    return {
      s1: checkValue(factor, `${name}.s1`, s1),
      s2: checkValue(factor, `${name}.s2`, s2),
      b1: checkValue(factor, `${name}.b1`, b1),
      b2: checkValue(factor, `${name}.b2`, b2),
    }
  },
}

const fraction = number(0, 1)

/** Two fractions of all steps; on a command line `from,to`. */
export const interval: Kind<readonly [from: number, to: number]> = {
  expected: '[from, to], two numbers from 0 to 1, from ≤ to',
  schema: { type: 'array', items: fraction.schema, minItems: 2, maxItems: 2 },
  fromText(text) {
    const ends = text.split(',').map(numberFromText)
    if (ends.length !== 2) throw new SyntaxError('It must be two numbers: from,to.')
    return ends
  },
  read(value, name) {
    const [from, to] = list(fraction, 2, 2).read(value, name) ?? []
    return from !== undefined && to !== undefined && from <= to ? [from, to] : undefined
  },
}

/** Tiles of the VAE: their side in pixels (undefined: the model's default), and the fraction of it that they share. */
export interface TilingOptions {
  readonly tileSize: number | undefined
  readonly overlap: number
}

const tilingOptions = {
  tileSize: { kind: side, group: 'vaeTiling', unit: 'pixels', says: 'side of a tile' },
  overlap: { kind: number(0, 0.5), default: 0.25, group: 'vaeTiling', says: 'fraction that tiles share' },
} as const satisfies Table

/** Whether, or how, the VAE works on tiles; on a command line `tile` or `tile:overlap`. */
export const vaeTiling: Kind<false | TilingOptions> = {
  expected: 'true, false, or { tileSize, overlap }',
  schema: { anyOf: [flag.schema, schemaOf(tilingOptions)] },
  fromText(text) {
    const [tileSize, overlap] = pair(text)
    return { tileSize, overlap }
  },
  read(value, name) {
    const given = value === true ? {} : value
    if (given === false) return false
    if (typeof given !== 'object' || given === null) return undefined
    return checkOptions(given, tilingOptions, `${name}.`)
  },
}

/** The frames that the network sees at a time, and how many of them two windows share. */
export interface Window {
  readonly frames: number
  readonly overlap: number
}

const windowOptions = {
  frames: { kind: integer(1, 4096), group: 'window', says: 'frames of a window' },
  overlap: {
    kind: integer(0, 4095),
    otherwise: 'half of them',
    group: 'window',
    says: 'frames that windows share; fewer than they have',
  },
} as const satisfies Table

/** A number of frames, or with the frames that windows share; on a command line `frames` or `frames:overlap`. */
export const window: Kind<Window> = {
  expected: 'frames, or { frames, overlap }',
  schema: { anyOf: [windowOptions.frames.kind.schema, schemaOf(windowOptions, ['frames'])] },
  fromText(text) {
    const [frames, overlap] = pair(text)
    return { frames, overlap }
  },
  read(value, name) {
    const given = typeof value === 'number' ? { frames: value } : value
    if (typeof given !== 'object' || given === null) return undefined
    const { frames: asked, overlap: shared } = checkOptions(given, windowOptions, `${name}.`)
    const frames = checkValue(windowOptions.frames.kind, `${name}.frames`, asked)
    const overlap = shared ?? Math.floor(frames / 2)
    if (overlap < frames) return { frames, overlap }
    throw invalidArgument(`${name}.overlap`, `an integer from 0 to ${frames - 1}`, overlap)
  },
}

/** One number, or two with a colon between. */
function pair(text: string): [number, number | undefined] {
  const [first = '', second, ...more] = text.split(':')
  if (more.length > 0) throw new SyntaxError('It must be one number, or two with a colon between.')
  return [numberFromText(first), second === undefined ? undefined : numberFromText(second)]
}
