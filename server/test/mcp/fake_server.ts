// The HTTP interface that the tools of MCP call, as a function. Videos end when the test says so.
import { randomBytes } from 'node:crypto'
import type { Answer, VideoFacts } from '#server/mcp/api.js'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
export type FakeVideo = Mutable<Omit<VideoFacts, 'torchreel'>> & {
  torchreel: Mutable<VideoFacts['torchreel']>
}

const png = Buffer.from('89504e470d0a1a0a', 'hex')

export class FakeServer {
  readonly videos: FakeVideo[] = []
  readonly requests: { method: string; path: string; headers: Headers; body: Record<string, unknown> }[] = []
  /** Only requests with this key are answered. */
  key: string | undefined
  /** Called with each new video. */
  onVideo: (video: FakeVideo) => void = (video) => this.complete(video)
  /** Called before a video is told. */
  onLook: (video: FakeVideo) => void = () => {}

  readonly answer: Answer = async (request) => {
    const { pathname: path, searchParams } = new URL(request.url)
    const text = await request.text()
    const body = text ? (JSON.parse(text) as Record<string, unknown>) : {}
    this.requests.push({ method: request.method, path, headers: request.headers, body })
    if (this.key && request.headers.get('authorization') !== `Bearer ${this.key}`)
      return refuse(401, 'the key is wrong')
    const [, , room, id, part] = path.split('/')
    if (room === 'models') return Response.json({ object: 'list', data: [{ id: 'shapes' }, { id: 'wan' }] })
    if (room === 'capabilities') return Response.json({ models: [{ id: 'shapes', fields }] })
    if (id === undefined)
      return request.method === 'POST' ? this.#create(body) : this.#list(Number(searchParams.get('limit')))
    const video = this.videos.find((one) => one.id === id)
    if (!video) return refuse(404, `there is no video ${id}`)
    if (part === undefined) this.onLook(video)
    if (part === 'content') return new Response(png, { headers: { 'content-type': 'image/png' } })
    if (part === 'cancel' && video.status !== 'completed') {
      video.status = 'failed'
      video.error = { code: 'cancelled', message: 'The job was cancelled.' }
      video.torchreel.state = 'cancelled'
    }
    return Response.json(video)
  }

  complete(video: FakeVideo): void {
    Object.assign(video, { status: 'completed', progress: 100 })
    video.torchreel.state = 'completed'
  }

  #create(body: Record<string, unknown>): Response {
    if ('step' in body) return refuse(400, 'there is no field step; did you mean "steps"?')
    const video: FakeVideo = {
      ...{ id: `video_${randomBytes(13).toString('hex')}`, status: 'queued', progress: 0, model: 'shapes' },
      ...{ prompt: String(body.prompt), size: '64x64', seconds: '2', error: null },
      torchreel: { state: 'queued', seed: Number(body.seed ?? 4711), queue_position: 1 },
    }
    this.videos.unshift(video)
    this.onVideo(video)
    return Response.json(video)
  }

  #list(limit: number): Response {
    return Response.json({
      ...{ object: 'list', data: this.videos.slice(0, limit), has_more: this.videos.length > limit },
    })
  }
}

const fields = [
  { name: 'prompt', schema: { type: 'string', minLength: 1 }, description: 'what the video shows' },
  {
    name: 'seed',
    schema: { type: 'integer', minimum: 0 },
    description: 'the same seed gives the same video',
  },
  { name: 'steps', schema: { type: 'integer', minimum: 1 }, description: 'denoising steps', default: 25 },
]

function refuse(status: number, message: string): Response {
  return Response.json(
    { error: { message, type: 'invalid_request_error', param: null, code: null } },
    { status },
  )
}
