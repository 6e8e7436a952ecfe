import { setTimeout as wait } from 'node:timers/promises'
import { unlessAborted } from '../abort.js'
import { matching, text } from '../checks/kinds.js'
import { checkOptions } from '../checks/options.js'
import { isPassing, notRetryable, refusal, ServerCallError } from './server_error.js'
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
   * @param read reads the answer; what it throws counts as a lost connection
   * @throws ServerCallError; `signal.reason`
   */
  async send<T>(path: string, request: Request, read: (response: Response) => Promise<T>): Promise<T> {
    const { signal } = request
    let lost = false
    for (let tries = 0; ; tries++) {
      signal?.throwIfAborted()
      try {
        return await this.#sendOnce(path, request, read)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof ServerCallError)) throw error
        lost ||= error.statusCode === undefined
        if (!lost || !isPassing(error)) throw error
        const pause = pauses[tries]
        if (pause === undefined) throw notRetryable(error)
        await unlessAborted(wait(pause), signal)
      }
    }
  }

  json<T>(path: string, request: Request = {}): Promise<{ value: T; headers: Record<string, string> }> {
    return this.send(path, request, async (response) => ({
      value: (await response.json()) as T,
      headers: Object.fromEntries(response.headers),
    }))
  }

  async #sendOnce<T>(
    path: string,
    { method = 'GET', headers = {}, body, signal }: Request,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const url = `${this.baseURL}${path}`
    const form = body instanceof FormData
    const sent = Object.entries({
      ...(body && !form && { 'content-type': 'application/json' }),
      ...(this.#apiKey !== undefined && { authorization: `Bearer ${this.#apiKey}` }),
      ...headers,
    }).filter((header): header is [string, string] => header[1] !== undefined)
    const asked = { url, requestBodyValues: form ? Object.fromEntries(body) : body }
    try {
      const response = await this.#fetch(url, {
        method,
        headers: sent,
        ...(body && { body: form ? body : JSON.stringify(body) }),
        ...(signal && { signal }),
      })
      if (response.ok) return await read(response)
      throw await refusal(response, asked)
    } catch (cause) {
      if (cause instanceof ServerCallError) throw cause
      throw new ServerCallError(`${method} ${url}: no answer`, { ...asked, cause })
    }
  }
}
