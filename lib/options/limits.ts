import { integer, type Kind } from '../checks/kinds.js'
import { checkOptions, schemaOf, type TableOf } from '../checks/options.js'
import { TorchreelError } from '../errors.js'

/** Upper limits of a pipeline. A value over a limit causes `ERR_LIMIT_EXCEEDED`, `ERR_QUEUE_FULL` or `ERR_MODEL_CORRUPT`. */
export interface Limits {
  /** Maximum of frames × height × width, for all videos of a call together. @defaultValue 268435456, such as 455 frames of 1024 × 576 */
  readonly pixels: number
  /** Maximum number of characters of a prompt. @defaultValue 20000; the models read 77 or 512 tokens */
  readonly promptLength: number
  /** Maximum number of prompts of a call. @defaultValue 1024 */
  readonly prompts: number
  /** Maximum number of calls that run or wait at the same time. More give `ERR_QUEUE_FULL`. @defaultValue 256 */
  readonly queue: number
  /** Maximum number of bytes of a safetensors file's header. More give `ERR_MODEL_CORRUPT`. @defaultValue 100000000, the format's own limit */
  readonly headerBytes: number
}

const kind = integer(1, Number.MAX_SAFE_INTEGER)
const group = 'Limits'

/** Each limit and its default. */
export const limitOptions = {
  pixels: {
    kind,
    default: 2 ** 28,
    group,
    says: 'maximum number of pixels of a call: frames × height × width, added up for all its videos',
  },
  promptLength: { kind, default: 20_000, group, unit: 'characters', says: 'maximum length of a prompt' },
  prompts: { kind, default: 1024, group, says: 'maximum number of prompts of a call' },
  queue: {
    kind,
    default: 256,
    group,
    says: 'maximum number of calls of a pipeline that run or wait at the same time',
  },
  headerBytes: {
    kind,
    default: 100_000_000,
    group,
    unit: 'bytes',
    says: 'maximum length of the header of a safetensors file',
  },
} as const satisfies TableOf<Limits>

export const defaultLimits: Limits = checkOptions({}, limitOptions)

/** The limits that are given, the others at their defaults. */
export const limits: Kind<Limits> = {
  expected: `{ ${Object.keys(limitOptions).join(', ')} }`,
  schema: schemaOf(limitOptions),
  read: (value, name) => checkOptions(value as object, limitOptions, `${name}.`),
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
