import { setTimeout as wait } from 'node:timers/promises'
import { unlessAborted } from '../abort.js'
import { matching, text } from '../checks/kinds.js'
import { checkOptions } from '../checks/options.js'
import type { CallHeaders, JsonValue } from './specification.js'

/** Where a server is. */
export interface ServerOptions {
  /** @defaultValue `http://127.0.0.1:8080/v1` */
  baseURL?: string | undefined
  /** One of the server's keys, if it wants one. */
  apiKey?: string | undefined
  /** Used instead of the global `fetch`. */
  fetch?: typeof fetch | undefined
}

/** A video as the server describes it. */
export interface ServerVideo {
  readonly id: string
  readonly status: string
  readonly model: string
  readonly size?: string
  readonly seconds?: string
  readonly error?: { readonly code?: string; readonly message?: string } | null
  readonly torchreel?: { readonly [name: string]: JsonValue | undefined; readonly warnings?: string[] }
}

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

const serverOptions = {
  baseURL: {
    kind: matching(/^https?:\/\/[^\s?#]+$/, 'the URL of a server, such as http://127.0.0.1:8080/v1'),
  },
  apiKey: { kind: text },
  fetch: {
    kind: {
      expected: 'a function',
      read: (value: unknown) => (typeof value === 'function' ? (value as typeof fetch) : undefined),
    },
  },
}

/** Times that a request without an answer is sent again, and the milliseconds before each. */
const pauses = [250, 1000, 4000]

interface Request {
  readonly method?: string
  readonly headers?: CallHeaders | undefined
  /** JSON, or a form. */
  readonly body?: FormData | object
  readonly signal?: AbortSignal | undefined
}

/** Sends requests to a torchreel server, and reads its errors. */
export class ServerClient {
  readonly baseURL: string
  readonly #apiKey: string | undefined
  readonly #fetch: typeof fetch

  constructor(options: ServerOptions) {
    const {
      baseURL = 'http://127.0.0.1:8080/v1',
      apiKey,
      fetch = globalThis.fetch,
    } = checkOptions(options, serverOptions)
    this.baseURL = baseURL.replace(/\/+$/, '')
    this.#apiKey = apiKey
    this.#fetch = fetch
  }

  /**
   * Sends a request that may be repeated: to read, or with an Idempotency-Key. After a lost connection it is sent again, with
   * the same key. If that does not succeed, the error is not retryable: with another key, a repetition could make a second
   * video.
   *
   * @throws ServerCallError; `signal.reason`
   */
  async send(path: string, request: Request = {}): Promise<Response> {
    const { signal } = request
    let lost = false
    for (const pause of [...pauses, undefined]) {
      signal?.throwIfAborted()
      try {
        return await this.#sendOnce(path, request)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof ServerCallError)) throw error
        lost ||= error.statusCode === undefined
        if (!lost || !isPassing(error)) throw error
        if (pause === undefined) throw notRetryable(error)
        await unlessAborted(wait(pause), signal)
      }
    }
    throw new Error('unreachable')
  }

  async json<T>(path: string, request?: Request): Promise<{ value: T; headers: Record<string, string> }> {
    const response = await this.send(path, request)
    return { value: (await response.json()) as T, headers: Object.fromEntries(response.headers) }
  }

  async #sendOnce(path: string, { method = 'GET', headers = {}, body, signal }: Request): Promise<Response> {
    const url = `${this.baseURL}${path}`
    const form = body instanceof FormData
    const sent = Object.entries({
      ...(body && !form && { 'content-type': 'application/json' }),
      ...(this.#apiKey !== undefined && { authorization: `Bearer ${this.#apiKey}` }),
      ...headers,
    }).filter((header): header is [string, string] => header[1] !== undefined)
    const asked = { url, requestBodyValues: form ? Object.fromEntries(body) : body }
    let response: Response
    try {
      response = await this.#fetch(url, {
        method,
        headers: sent,
        ...(body && { body: form ? body : JSON.stringify(body) }),
        ...(signal && { signal }),
      })
    } catch (cause) {
      throw new ServerCallError(`${method} ${url}: no answer`, { ...asked, cause })
    }
    if (response.ok) return response
    throw await refusal(response, asked)
  }
}

/** The error of an answer that is not 2xx. */
async function refusal(response: Response, asked: { url: string; requestBodyValues: unknown }) {
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
