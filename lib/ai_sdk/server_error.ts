/**
 * A request that failed. The AI SDK takes it for one of its own APICallErrors: it tries again if `isRetryable` is true, after
 * the time that `responseHeaders` name.
 */
export class ServerCallError extends Error {
  override readonly name = 'AI_APICallError'
  readonly url: string
  readonly requestBodyValues: unknown
  /** Undefined: the server did not answer, or the video failed later. */
  readonly statusCode: number | undefined
  readonly responseHeaders: Record<string, string> | undefined
  readonly responseBody: string | undefined
  readonly isRetryable: boolean
  /** The server's `error` object: message, type, param, code. */
  readonly data: unknown

  constructor(
    message: string,
    details: Pick<ServerCallError, 'url'> &
      Partial<
        Pick<
          ServerCallError,
          'requestBodyValues' | 'statusCode' | 'responseHeaders' | 'responseBody' | 'data' | 'isRetryable'
        >
      > & {
        cause?: unknown
      },
  ) {
    super(message, { cause: details.cause })
    this.url = details.url
    this.requestBodyValues = details.requestBodyValues
    this.statusCode = details.statusCode
    this.responseHeaders = details.responseHeaders
    this.responseBody = details.responseBody
    this.isRetryable = details.isRetryable ?? isPassing(this)
    this.data = details.data
    // How the AI SDK's isInstance knows its errors.
    for (const marker of ['vercel.ai.error', 'vercel.ai.error.AI_APICallError'])
      Object.defineProperty(this, Symbol.for(marker), { value: true })
  }
}

/** Whether the same request may succeed later: no answer, or a refusal for now. */
export function isPassing({ statusCode: status = 500 }: ServerCallError): boolean {
  return status === 408 || status === 429 || status >= 500
}

/** The error of something that must not be repeated. */
export function notRetryable(error: unknown): unknown {
  if (!(error instanceof ServerCallError && error.isRetryable)) return error
  return new ServerCallError(error.message, { ...error, isRetryable: false, cause: error })
}

/** The error of an answer that is not 2xx. */
export async function refusal(response: Response, asked: { url: string; requestBodyValues: unknown }) {
  const { status } = response
  const responseBody = await response.text().catch(() => '')
  let data: { message?: unknown } | undefined
  try {
    data = (JSON.parse(responseBody) as { error?: { message?: unknown } }).error
  } catch {
    // A proxy's page, say: the status tells enough.
  }
  const message = typeof data?.message === 'string' ? data.message : `the server answered ${status}`
  return new ServerCallError(message, {
    ...asked,
    statusCode: status,
    responseHeaders: Object.fromEntries(response.headers),
    responseBody,
    data,
  })
}
