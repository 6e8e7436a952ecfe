/** The code of an error. Codes are stable: they change only with a major version. */
export type TorchreelErrorCode =
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_LIMIT_EXCEEDED'
  | 'ERR_MODEL_NOT_FOUND'
  | 'ERR_MODEL_CORRUPT'
  | 'ERR_MODEL_INCOMPATIBLE'
  | 'ERR_MODEL_UNTRUSTED'
  | 'ERR_UNSAFE_PATH'
  | 'ERR_DOWNLOAD_FAILED'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_DEVICE_UNAVAILABLE'
  | 'ERR_DEVICE_LOST'
  | 'ERR_NUMERIC'
  | 'ERR_DISPOSED'
  | 'ERR_QUEUE_FULL'
  | 'ERR_ENCODER_NOT_FOUND'
  | 'ERR_ENCODER_FAILED'
  | 'ERR_OUTPUT_EXISTS'
  | 'ERR_OUTPUT_WRITE'
  | 'ERR_LIBTORCH_NOT_FOUND'
  | 'ERR_NATIVE_LOAD'
  | 'ERR_INTERNAL'

/** Further fields of a {@link TorchreelError}. Each is set only if it applies. */
export interface TorchreelErrorDetails {
  /** The name of the invalid argument or option. */
  parameter?: string
  /** The values that are accepted, in words. */
  expected?: string
  /** The value that was given. */
  received?: unknown
  /** The stage in which a number was NaN or infinite: 'encode', 'denoise' or 'decode'. */
  stage?: string
  /** The prompt, the frame, or the call of the network in this stage, from 1. */
  step?: number
  /** The device that has no more memory or was lost: 'cpu', 'cuda:0' … */
  device?: string
  /** The file or folder concerned. */
  path?: string
  /** The URL of the request. */
  url?: string
  /** ffmpeg's exit code. */
  exitCode?: number | null
  /** The signal that ended ffmpeg. */
  signal?: string | null
  /** The last lines that ffmpeg wrote to stderr. */
  stderrTail?: string
  cause?: unknown
}

/**
 * The only error class of torchreel. An aborted call rejects with `signal.reason` instead, as usual on this platform.
 */
export class TorchreelError extends Error {
  override readonly name = 'TorchreelError'
  readonly code: TorchreelErrorCode
  declare readonly parameter?: string
  declare readonly expected?: string
  declare readonly received?: unknown
  declare readonly stage?: string
  declare readonly step?: number
  declare readonly device?: string
  declare readonly path?: string
  declare readonly url?: string
  declare readonly exitCode?: number | null
  declare readonly signal?: string | null
  declare readonly stderrTail?: string

  constructor(code: TorchreelErrorCode, message: string, details: TorchreelErrorDetails = {}) {
    const { cause, ...fields } = details
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    Object.assign(this, fields)
  }
}

/** An `ERR_INVALID_ARGUMENT` with the parameter, the expected values and the value that was given. */
export function invalidArgument(parameter: string, expected: string, received: unknown): TorchreelError {
  return new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `${parameter} must be ${expected}, got ${show(received)}`,
    {
      parameter,
      expected,
      received,
    },
  )
}

/** An `ERR_INVALID_ARGUMENT` for two options that exclude each other. */
export function conflict(parameter: string, other: string, received: unknown): TorchreelError {
  return new TorchreelError('ERR_INVALID_ARGUMENT', `${parameter} cannot be combined with ${other}`, {
    parameter,
    expected: `no ${parameter} with ${other}`,
    received,
  })
}

/** An `ERR_INVALID_ARGUMENT` for an option that needs another one. `parameter`: the one at fault. */
export function requires(
  option: string,
  needed: string,
  received: unknown,
  parameter: string = option,
): TorchreelError {
  return new TorchreelError('ERR_INVALID_ARGUMENT', `${option} needs ${needed}`, {
    parameter,
    expected: needed,
    received,
  })
}

/** A short, safe rendering of any value for a message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value !== 'object' || value === null) return String(value)
  if (Array.isArray(value)) return `an array of ${value.length}`
  const type = Object.getPrototypeOf(value)?.constructor?.name
  return type && type !== 'Object' ? `an instance of ${type}` : 'an object'
}
