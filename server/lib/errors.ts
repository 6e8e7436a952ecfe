import type { ContentfulStatusCode } from 'hono/utils/http-status'

/** An error as clients see it, in OpenAI's form. */
export class ApiError extends Error {
  constructor(
    readonly status: ContentfulStatusCode,
    readonly type: string,
    readonly code: string,
    message: string,
    readonly param: string | null = null,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message)
  }
}

/** A mistake in the request: it is of no use to repeat it. */
export class InvalidRequest extends ApiError {
  constructor(message: string, param: string | null = null, code = 'err_invalid_argument') {
    super(400, 'invalid_request_error', code, message, param)
  }
}

export class TooLarge extends ApiError {
  constructor(message: string, param: string | null = null) {
    super(413, 'invalid_request_error', 'too_large', message, param, { connection: 'close' })
  }
}

export const notFound = (message: string, code = 'not_found'): ApiError =>
  new ApiError(404, 'not_found_error', code, message)

export const forbidden = (message: string, code: string): ApiError =>
  new ApiError(403, 'permission_error', code, message)

/** Too much at once; the client may try again after so many milliseconds. */
export function tooMany(message: string, code: string, after: number): ApiError {
  const headers = {
    'retry-after-ms': String(Math.ceil(after)),
    'retry-after': String(Math.ceil(after / 1000)),
  }
  return new ApiError(429, 'rate_limit_error', code, message, null, headers)
}

export const unavailable = (message: string, code = 'unavailable'): ApiError =>
  new ApiError(503, 'server_error', code, message, null, { 'retry-after': '2' })
