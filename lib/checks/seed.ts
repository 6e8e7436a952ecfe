import { integer, type Kind } from './kinds.js'

/** What a generator of random numbers starts from. */
export const seed: Kind<number> = {
  ...integer(0, Number.MAX_SAFE_INTEGER),
  expected: 'an integer from 0 to 2^53 − 1',
}

/** A seed for a caller who gave none: 32 random bits, so that it is easy to write down. */
export function chooseSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] as number
}
