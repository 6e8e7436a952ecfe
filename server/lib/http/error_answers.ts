import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { Logger } from 'pino'
import { TorchreelError } from 'torchreel'
import { ApiError, InvalidRequest, tooMany, unavailable } from '../errors.js'
import { wireNameOf } from '../fields.js'
import { KeyReused, QueueAway, QueueFull } from '../jobs/jobs.js'

const noSpace = ['ENOSPC', 'EDQUOT', 'EROFS']

/** What was thrown, as clients may see it. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof TorchreelError) {
    if (error.code === 'ERR_INVALID_ARGUMENT' || error.code === 'ERR_LIMIT_EXCEEDED') {
      const param = wireNameOf(error.parameter) ?? null
      const { parameter = '', message } = error
      const text = param && message.startsWith(parameter) ? param + message.slice(parameter.length) : message
      return new InvalidRequest(text, param, error.code.toLowerCase())
    }
  }
  if (error instanceof QueueFull) return tooMany(`${error.message}; try again later`, 'queue_full', 5_000)
  if (error instanceof QueueAway) return unavailable('the queue does not answer', 'queue_away')
  if (error instanceof KeyReused)
    return new ApiError(422, 'invalid_request_error', 'idempotency_key_reuse', error.message)
  if (error instanceof HTTPException)
    return new ApiError(error.status, 'invalid_request_error', 'http', error.message)
  const { code = '' } = (error ?? {}) as NodeJS.ErrnoException
  if (noSpace.includes(code)) return unavailable('the server has no room on its disk', 'no_space')
  return new ApiError(
    500,
    'server_error',
    'internal_error',
    'an error of the server; its log has the request id',
  )
}

export function errorBody({ message, type, param, code }: ApiError): object {
  return { error: { message, type, param, code } }
}

/** Answers with an error, and logs it if it is the server's: with the place in the code where nobody foresaw it. */
export function answerError(error: unknown, c: Context, logger: Logger): Response {
  const shown = toApiError(error)
  const requestId = c.get('requestId')
  if (shown.status >= 500) {
    if (error instanceof ApiError) logger.warn({ requestId, error: shown.message }, 'request refused')
    else logger.error({ requestId, error: String((error as Error)?.stack ?? error) }, 'request failed')
  }
  return c.json(errorBody(shown), shown.status, shown.headers)
}
