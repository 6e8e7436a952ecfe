import { type Check, integer, reader } from '../checks/checks.js'
import { TorchreelError } from '../errors.js'

/** How much one pipeline may be asked for: what is more is `ERR_LIMIT_EXCEEDED`, `ERR_QUEUE_FULL` or `ERR_MODEL_CORRUPT`. */
export interface Limits {
  /** Frames × height × width of all videos of a call. @defaultValue 2^28: 16 of 1024 × 576 and more, yet no typing error's terabyte */
  readonly pixels: number
  /** Characters of a prompt. @defaultValue 20 000; the models read 77 tokens */
  readonly promptLength: number
  /** Prompts of a call. @defaultValue 1024 */
  readonly prompts: number
  /** Calls that may wait or run; more is a caller that does not wait for its results: `ERR_QUEUE_FULL`. @defaultValue 256 */
  readonly queue: number
  /** Bytes of a safetensors file's header: `ERR_MODEL_CORRUPT`. @defaultValue 100 000 000, the format's own limit */
  readonly headerBytes: number
}

export const standardLimits: Limits = {
  pixels: 2 ** 28,
  promptLength: 20_000,
  prompts: 1024,
  queue: 256,
  headerBytes: 100_000_000,
}

/** Each limit that is given, and the standard ones. */
export const limitsOf: Check<Limits> = (name, value) => {
  const names = Object.keys(standardLimits) as (keyof Limits)[]
  const read = reader(value as object, names)
  const bound = (limit: keyof Limits) =>
    read(limit, standardLimits[limit], (_, given) =>
      integer(1, Number.MAX_SAFE_INTEGER)(`${name}.${limit}`, given),
    )
  return Object.fromEntries(names.map((limit) => [limit, bound(limit)])) as unknown as Limits
}

/** @throws TorchreelError `ERR_LIMIT_EXCEEDED` */
export function assertWithin(limit: number, received: number, parameter: string, unit: string): void {
  if (received <= limit) return
  throw new TorchreelError(
    'ERR_LIMIT_EXCEEDED',
    `${parameter} must have at most ${limit} ${unit}, got ${received}`,
    {
      parameter,
      expected: `at most ${limit} ${unit}`,
      received,
    },
  )
}
