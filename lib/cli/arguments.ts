import { InvalidArgumentError } from 'commander'
import type { LoraOptions, TextualInversionOptions } from '../adapters/options.js'
import type { GenerateOptions } from '../options/call.js'

// How the values of options are written on the command line. Ranges are the API's to check.

export function numeric(value: string): number {
  const number = Number(value)
  if (value.trim() === '' || Number.isNaN(number)) throw new InvalidArgumentError('It must be a number.')
  return number
}

/** 999,700,300 */
export function numbers(value: string): number[] {
  return value.split(',').map(numeric)
}

/** 9, or 9,7,5 */
export function oneOrMore(value: string): number | number[] {
  return value.includes(',') ? numbers(value) : numeric(value)
}

/** from,to */
export function interval(value: string): GenerateOptions['guidanceInterval'] {
  const [from, to, ...more] = numbers(value)
  if (from === undefined || to === undefined || more.length > 0) {
    throw new InvalidArgumentError('It must be two numbers: from,to.')
  }
  return [from, to]
}

/** s1,s2,b1,b2 */
export function freeU(value: string): GenerateOptions['freeU'] {
  const [s1, s2, b1, b2, ...more] = numbers(value)
  if (s1 === undefined || s2 === undefined || b1 === undefined || b2 === undefined || more.length > 0) {
    throw new InvalidArgumentError('It must be four numbers: s1,s2,b1,b2.')
  }
  return { s1, s2, b1, b2 }
}

/** frames, or frames:overlap */
export function frameWindow(value: string): GenerateOptions['window'] {
  const [frames, overlap] = pair(value)
  return { frames, overlap }
}

/** tile, or tile:overlap */
export function tiling(value: string): GenerateOptions['vaeTiling'] {
  const [tileSize, overlap] = pair(value)
  return { tileSize, ...(overlap !== undefined && { overlap }) }
}

function pair(value: string): [number, number | undefined] {
  const [first = '', second, ...more] = value.split(':')
  if (more.length > 0) throw new InvalidArgumentError('It must be one number, or two with a colon between.')
  return [numeric(first), second === undefined ? undefined : numeric(second)]
}

/** file, or file:scale; one more of those before it */
export function lora(value: string, before: (LoraOptions & { file: string })[] = []) {
  const [, file = value, scale = '1'] = /^(.+):([-+]?[\d.]+)$/.exec(value) ?? []
  return [...before, { file, scale: numeric(scale) }]
}

/** file, or file:word; one more of those before it */
export function textualInversion(value: string, before: (TextualInversionOptions & { file: string })[] = []) {
  const [, file = value, token] = /^(.+\.safetensors):(.+)$/.exec(value) ?? []
  return [...before, { file, token }]
}
