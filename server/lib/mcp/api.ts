import type { Video } from '../videos.js'

/** A function that answers a request: a server's own, in this process, or `fetch`. */
export type Answer = (request: Request) => Promise<Response>

/** The answer after the end. A call that the end breaks off cancels its video no more: it goes on, or after the next start. */
export const closedAnswer = (): Response =>
  Response.json({ error: { message: 'the server is shutting down' } }, { status: 503 })

type Known = Video['torchreel']

/** A video as `/v1/videos` describes it, as far as the tools tell of it. */
export interface VideoFacts
  extends Pick<Video, 'id' | 'status' | 'progress' | 'model' | 'prompt' | 'size' | 'seconds' | 'error'> {
  readonly torchreel: Pick<Known, 'state' | 'seed'> &
    Partial<Pick<Known, 'stage' | 'step' | 'steps' | 'eta_ms' | 'queue_position' | 'warnings'>>
}

/** Milliseconds that the server has for an answer: the tools have their own time to keep. */
const patience = 10_000

/** A refusal of the server, in its own words. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** Calls the HTTP interface of a server. */
export class Api {
  /** Without `/v1`. */
  readonly origin: string
  readonly #answer: Answer
  readonly #headers: Readonly<Record<string, string>>

  /** @param headers of every request, such as the caller's key */
  constructor(origin: string, answer: Answer, headers: Readonly<Record<string, string>> = {}) {
    this.origin = origin
    this.#answer = answer
    this.#headers = headers
  }

  /** @throws Refused */
  async json<T>(
    path: string,
    { method = 'GET', body, headers }: { method?: string; body?: object; headers?: object } = {},
  ): Promise<T> {
    const response = await this.#send(path, {
      method,
      headers: { ...headers, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    })
    return (await response.json()) as T
  }

  async bytes(path: string): Promise<Buffer> {
    return Buffer.from(await (await this.#send(path, {})).arrayBuffer())
  }

  /** Where a video's file is, for those who ask with a key. */
  contentUrl(id: string): string {
    return `${this.origin}/v1/videos/${id}/content`
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    const request = new Request(`${this.origin}/v1${path}`, {
      ...init,
      signal: AbortSignal.timeout(patience),
      headers: { ...this.#headers, ...(init.headers as Record<string, string>) },
    })
    const response = await this.#answer(request)
    if (response.ok) return response
    const text = await response.text()
    throw new Refused(response.status, messageOf(text) ?? `the server answered ${response.status}`)
  }
}

function messageOf(body: string): string | undefined {
  try {
    return (JSON.parse(body) as { error?: { message?: string } }).error?.message
  } catch {
    return undefined
  }
}
