import { Readable } from 'node:stream'
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'
import { type Body, type BodyLimits, readBody } from '../body.js'
import { ApiError, InvalidRequest, notFound, unavailable } from '../errors.js'
import type { Words } from '../fields.js'
import type { Files } from '../files/files.js'
import { idPattern, isEnded, type Job } from '../jobs/job.js'
import { idOf, isEnd, type Jobs } from '../jobs/jobs.js'
import { type Arrival, type Asked, type Requests, wordsForRemix } from '../requests.js'
import { toVideo, type Video } from '../videos.js'
import type { AppEnv, Routes } from './app.js'
import { answerContent } from './content.js'
import { type Events, eventHeaders } from './events.js'
import type { Open, Rates } from './rates.js'

export interface VideoRoutesOptions {
  readonly jobs: Jobs
  readonly files: Files
  readonly requests: Requests
  readonly events: Events
  readonly rates: Rates
  readonly streams: Open
  readonly bodies: BodyLimits & { readonly folder: string }
  /** Seconds that a link to the store is good for; undefined: this server sends the files itself. */
  readonly linkSeconds: number | undefined
  readonly isClosing: () => boolean
}

type C = Context<AppEnv>

const longestWait = 600
const pollAfter = { 'openai-poll-after-ms': '1000' }

/** /v1/videos, as OpenAI's clients call it, and what torchreel adds. */
export function videoRoutes(options: VideoRoutesOptions): Routes {
  const { jobs, files, requests, events, rates, streams, bodies } = options

  /** The job of an id, if it is the asker's: others' do not exist for him. */
  const find = async (c: C, id = c.req.param('id') ?? ''): Promise<Job> => {
    const job = idPattern.test(id) ? await jobs.get(id) : undefined
    const owner = c.get('owner')
    if (!job || (job.owner !== owner.name && !owner.isAdmin))
      throw notFound(`there is no video ${id.slice(0, 40)}`, 'video_not_found')
    return job
  }

  const answer = (c: C, job: Job, headers = {}) =>
    c.json<Video>(toVideo(job), 200, { ...pollAfter, ...headers })

  /** Reads the body, accepts the job, and removes what is left of the upload. */
  const accept = async (c: C, prepare: (body: Body) => Promise<Asked>): Promise<Job> => {
    if (options.isClosing()) throw unavailable('the server is shutting down', 'shutting_down')
    rates.take(c.get('owner').name)
    const body = await readBody(c.req.raw, bodies.folder, bodies)
    try {
      return await requests.accept(await prepare(body), arrivalOf(c))
    } finally {
      await body.dispose()
    }
  }

  const plain = async (body: Body): Promise<Asked> => body

  return (app) => {
    app.post('/v1/videos', async (c) => {
      const job = await accept(c, plain)
      return answer(c, await waitFor(jobs, job, preferredWait(c), c.req.raw.signal))
    })

    app.post('/v1/videos/sync', async (c) => {
      const { signal } = c.req.raw
      const job = await accept(c, plain)
      const ended = await waitFor(jobs, job, Infinity, signal)
      if (!isEnded(ended)) {
        // The client has gone: nobody waits for this video.
        await jobs.cancel(job.id)
        return c.body(null, 499 as 400)
      }
      if (ended.state !== 'completed') throw failedInSync(ended)
      const file = await files.open(job.id, 'video.mp4')
      if (!file) throw notFound(`${job.id} was removed meanwhile`, 'video_not_found')
      return new Response(Readable.toWeb(file.stream) as ReadableStream, {
        headers: {
          'content-type': file.type,
          'content-length': String(file.size),
          'x-torchreel-id': job.id,
          'x-torchreel-seed': String(job.request.options.seed),
        },
      })
    })

    app.post('/v1/videos/edits', async (c) => {
      const job = await accept(c, async (body) => {
        const source = await sourceOf(c, body)
        if (!source && !body.upload)
          throw new InvalidRequest('video is needed: a file, or video[id]', 'video')
        return { ...body, source, words: without(body.words, ['video', 'video[id]']) }
      })
      return answer(c, await waitFor(jobs, job, preferredWait(c), c.req.raw.signal))
    })

    for (const path of ['/v1/videos/extensions', '/v1/videos/characters', '/v1/videos/characters/:id'])
      app.all(path, () => {
        throw new InvalidRequest(
          'torchreel cannot do this; /v1/videos/edits starts from a video',
          null,
          'unsupported',
        )
      })

    app.post('/v1/videos/:id/remix', async (c) => {
      const original = await find(c)
      const job = await accept(c, async (body) => {
        // With strength it starts from that video, else only the settings are the same.
        const source = body.words.has('strength') ? completed(original) : undefined
        const words = wordsForRemix(original.request, body.words)
        return { ...body, source, words, remixOf: original.id, hash: `${body.hash}:${original.id}` }
      })
      return answer(c, await waitFor(jobs, job, preferredWait(c), c.req.raw.signal))
    })

    app.get('/v1/videos', async (c) => {
      const { after } = c.req.query()
      if (after !== undefined && !idPattern.test(after))
        throw new InvalidRequest('after must be the id of a video', 'after')
      const order = c.req.query('order') ?? 'desc'
      if (order !== 'asc' && order !== 'desc') throw new InvalidRequest('order must be asc or desc', 'order')
      const limit = Number(c.req.query('limit') ?? 20)
      if (!(Number.isInteger(limit) && limit >= 1 && limit <= 100))
        throw new InvalidRequest('limit must be an integer from 1 to 100', 'limit')
      const { jobs: found, more } = await jobs.list({ owner: ownerSeen(c), after, limit, order })
      const data = found.map(toVideo)
      return c.json({
        object: 'list' as const,
        data,
        first_id: data.at(0)?.id ?? null,
        last_id: data.at(-1)?.id ?? null,
        has_more: more,
      })
    })

    app.get('/v1/events', (c) => follow(c, () => jobs.unfinished(ownerSeen(c))))

    app.get('/v1/videos/:id', async (c) => answer(c, await find(c)))
    app.get('/v1/videos/:id/content', async (c) =>
      answerContent(c, files, await find(c), options.linkSeconds),
    )
    app.get('/v1/videos/:id/events', async (c) => {
      const { id } = await find(c)
      const now = async () => {
        const job = await jobs.get(id)
        return job ? [job] : []
      }
      return follow(c, now, id)
    })

    app.post('/v1/videos/:id/cancel', async (c) => {
      const { id } = await find(c)
      const job = await jobs.cancel(id)
      if (!job) throw notFound(`there is no video ${id}`, 'video_not_found')
      return answer(c, job)
    })

    app.delete('/v1/videos/:id', async (c) => {
      const { id } = await find(c)
      await jobs.remove(id)
      return c.json({ id, object: 'video.deleted' as const, deleted: true as const })
    })
  }

  /** A stream of events, which begins with these jobs. A HEAD has none: nobody would read it, and its place would stay taken. */
  function follow(c: C, read: () => Promise<readonly Job[]>, only?: string): Response {
    if (c.req.raw.method === 'HEAD') return new Response(null, { headers: eventHeaders })
    const left = streams.enter(c.get('owner').name)
    return events.open({
      ...{ owner: ownerSeen(c), jobs: read(), left, cutOff: cutOff(c) },
      ...(only !== undefined && { only }),
    })
  }

  /** The video of the gallery that an edit names. */
  async function sourceOf(c: C, { words }: Body): Promise<Job | undefined> {
    const video = words.get('video')
    const id =
      words.get('video[id]') ??
      (typeof video === 'object' ? (video as { id?: unknown } | null)?.id : undefined)
    if (id === undefined && video === undefined) return undefined
    if (typeof id !== 'string')
      throw new InvalidRequest('video must be a file, or video[id] the id of a video', 'video')
    return completed(await find(c, id))
  }
}

/** Ends the connection, if this server has one of its own. */
function cutOff({ env }: C): (() => void) | undefined {
  const { outgoing } = (env ?? {}) as Partial<HttpBindings>
  return outgoing && (() => outgoing.destroy())
}

function completed(job: Job): Job {
  if (job.state === 'completed') return job
  throw notFound(`${job.id} has no video to start from: it is ${job.state}`, 'video_not_ready')
}

function without(words: Words, names: readonly string[]): Words {
  return new Map([...words].filter(([name]) => !names.includes(name)))
}

/** Undefined: all owners' jobs. */
function ownerSeen(c: C): string | undefined {
  const { name, isAdmin } = c.get('owner')
  return isAdmin ? undefined : name
}

function arrivalOf(c: C): Arrival {
  const key = c.req.header('idempotency-key')
  if (key !== undefined && (key === '' || key.length > 255))
    throw new InvalidRequest('the idempotency key must have 1 to 255 characters', 'idempotency-key')
  const traceparent = c.req.header('traceparent')
  return {
    owner: c.get('owner'),
    idempotencyKey: key,
    isRetry: Number(c.req.header('x-stainless-retry-count') ?? 0) >= 1,
    traceparent: /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(traceparent ?? '')
      ? traceparent
      : undefined,
  }
}

/** Seconds of `Prefer: wait=30`; 0: do not wait. */
function preferredWait(c: C): number {
  const [, seconds] = /(?:^|[,;]\s*)wait=(\d{1,6})\b/i.exec(c.req.header('prefer') ?? '') ?? []
  return Math.min(Number(seconds ?? 0), longestWait)
}

/** The job when it has ended, when so many seconds are over, or when the client has gone. */
async function waitFor(jobs: Jobs, job: Job, seconds: number, signal: AbortSignal): Promise<Job> {
  if (seconds === 0 || isEnded(job)) return job
  let stop = () => {}
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<void>((resolve) => {
    const unwatch = jobs.watch((change) => {
      if (idOf(change) === job.id && isEnd(change)) resolve()
    })
    if (seconds < Infinity) timer = setTimeout(resolve, seconds * 1000)
    signal.addEventListener('abort', () => resolve(), { once: true })
    stop = () => {
      unwatch()
      clearTimeout(timer)
    }
  })
  try {
    const now = await jobs.get(job.id)
    if (now && !isEnded(now) && !signal.aborted) await over
    const last = await jobs.get(job.id)
    if (!last) throw notFound(`${job.id} was removed meanwhile`, 'video_not_found')
    return last
  } finally {
    stop()
  }
}

/** A job's failure as the answer of a request that waited for it. */
function failedInSync({ id, error }: Job): ApiError {
  const { code = 'failed', message = 'The job failed.' } = error ?? {}
  const headers = { 'x-torchreel-id': id, 'x-should-retry': 'false' }
  if (code === 'ERR_INVALID_ARGUMENT' || code === 'ERR_LIMIT_EXCEEDED')
    return new ApiError(400, 'invalid_request_error', code.toLowerCase(), message, null, headers)
  return new ApiError(500, 'server_error', code.toLowerCase(), message, null, headers)
}
