// A server of videos behind a `fetch`, as small as the AI SDK's provider needs it. Videos end when the test says so.

interface FakeVideo {
  id: string
  object: 'video'
  status: string
  model: string
  size: string
  seconds: string
  error: { code: string; message: string } | null
  torchreel: { seed: number; warnings: string[] }
}

/** A request as the server saw it. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: Headers
  /** JSON, or the fields of a form; a file is its bytes. */
  readonly body: Record<string, unknown>
}

export class FakeServer {
  readonly seen: Seen[] = []
  readonly videos = new Map<string, FakeVideo>()
  /** The answers of the next requests, each for one; 'lost' breaks the connection after the work is done. */
  readonly next: (Response | 'lost')[] = []
  readonly #keys = new Map<string, string>()
  readonly #streams = new Map<string, ReadableStreamDefaultController<Uint8Array>>()
  #seen: () => void = () => {}

  readonly fetch: typeof fetch = async (input, init) => {
    const request = new Request(input as string, init as RequestInit)
    const path = new URL(request.url).pathname.replace('/v1', '')
    const kind = request.headers.get('content-type') ?? ''
    const body = kind.startsWith('multipart') ? await readForm(request) : await request.text()
    const seen = typeof body === 'string' ? (JSON.parse(body || '{}') as Seen['body']) : body
    this.seen.push({ method: request.method, path, headers: request.headers, body: seen })
    const planned = this.next.shift()
    const answer = planned instanceof Response ? planned : this.#answer(request, path, seen)
    this.#seen()
    if (planned === 'lost') throw new TypeError('fetch failed')
    return answer
  }

  /** Resolves with the first request of a kind, when it has come. */
  async request(method: string, path: RegExp): Promise<Seen> {
    for (;;) {
      const found = this.seen.find((one) => one.method === method && path.test(one.path))
      if (found) return found
      await new Promise<void>((resolve) => {
        this.#seen = resolve
      })
    }
  }

  end(id: string, status: 'completed' | 'failed', error: FakeVideo['error'] = null): void {
    const video = this.videos.get(id)
    if (!video) throw new Error(`no video ${id}`)
    Object.assign(video, { status, error })
    this.#streams.get(id)?.enqueue(eventOf(video))
  }

  /** Ends the stream of events without an end of its video. */
  breakStream(id: string): void {
    this.#streams.get(id)?.close()
    this.#streams.delete(id)
  }

  #answer(request: Request, path: string, body: Seen['body']): Response {
    const [, , id = '', part] = path.split('/')
    if (request.method === 'POST' && path === '/videos') return Response.json(this.#create(request, body))
    const video = this.videos.get(id)
    if (!video) return refuse(404, { message: `there is no video ${id}`, code: 'not_found' })
    if (part === 'cancel' && video.status === 'queued')
      this.end(id, 'failed', { code: 'cancelled', message: 'cancelled' })
    if (part === 'content')
      return new Response(`the video ${id}`, { headers: { 'content-type': 'video/mp4' } })
    if (part !== 'events') return Response.json(video, { headers: { 'openai-poll-after-ms': '5' } })
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#streams.set(id, controller)
        controller.enqueue(new TextEncoder().encode(': hello\n\n'))
        controller.enqueue(eventOf(video))
      },
      cancel: () => {
        this.#streams.delete(id)
      },
    })
    return new Response(stream, { headers: { 'content-type': 'text/event-stream' } })
  }

  #create(request: Request, { model, seed }: Seen['body']): FakeVideo {
    const key = request.headers.get('idempotency-key') ?? ''
    const id = this.#keys.get(key) ?? `video_${this.videos.size + 1}`
    this.#keys.set(key, id)
    const video: FakeVideo = this.videos.get(id) ?? {
      ...{
        id,
        object: 'video',
        status: 'queued',
        model: String(model),
        size: '64x64',
        seconds: '2',
        error: null,
      },
      ...{ torchreel: { seed: Number(seed ?? 4711), warnings: ['a warning of the server'] } },
    }
    this.videos.set(id, video)
    return video
  }
}

export function refuse(status: number, error: object, headers: Record<string, string> = {}): Response {
  return Response.json({ error }, { status, headers })
}

function eventOf(video: FakeVideo): Uint8Array {
  return new TextEncoder().encode(`event: video\nid: 1\ndata: ${JSON.stringify(video)}\n\n`)
}

async function readForm(request: Request): Promise<Seen['body']> {
  const fields: Seen['body'] = {}
  for (const [name, value] of await request.formData())
    fields[name] = typeof value === 'string' ? value : Buffer.from(await value.arrayBuffer())
  return fields
}
