import { setImmediate as nextTurn } from 'node:timers/promises'
import { isEnded, type Job } from '../jobs/job.js'
import { type Change, idOf, isEnd, type Jobs } from '../jobs/jobs.js'
import { toVideo } from '../videos.js'

// Server-sent events: each tells of one video as it is now. There is nothing to replay: whoever missed some is right again with
// the next one.

const least = 250
/** Changes are told together this often (ms): a stream costs as much for one as for many. */
const together = 50
const commentEvery = 15_000
/** Bytes that may wait for a slow reader. */
const backlog = 2 ** 20

interface Client {
  /** undefined: of all owners. */
  readonly owner: string | undefined
  /** Of this job alone; then the stream ends after the job's end. */
  readonly only: string | undefined
  send(bytes: Uint8Array): void
  close(): void
}

interface Opening {
  readonly owner: string | undefined
  readonly jobs: Promise<readonly Job[]>
  readonly left: () => void
  readonly only?: string
  readonly cutOff: (() => void) | undefined
}

/** Streams that are written before other work has its turn. */
const clientsInTurn = 16
export const eventHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store',
  'x-accel-buffering': 'no',
}
const encoder = new TextEncoder()
const ownerOf = (change: Change) => (change.type === 'job' ? change.job.owner : change.owner)
const wants = ({ owner, only }: Client, change: Change) =>
  (owner === undefined || ownerOf(change) === owner) && (only === undefined || idOf(change) === only)

/** Tells clients of changes: at most four a second of a job, and the last one always. */
export class Events {
  readonly #clients = new Set<Client>()
  readonly #waiting = new Map<string, { change: Change; timer: NodeJS.Timeout }>()
  readonly #told = new Map<string, number>()
  readonly #stop: () => void
  readonly #comments: NodeJS.Timeout
  #changes: Change[] = []
  #telling: NodeJS.Timeout | undefined
  #count = 0

  constructor(jobs: Jobs) {
    this.#stop = jobs.watch((change) => this.#hear(change))
    const comment = encoder.encode(': \n\n')
    this.#comments = setInterval(() => {
      for (const client of [...this.#clients]) client.send(comment)
    }, commentEvery)
    this.#comments.unref()
  }

  /**
   * A stream of events, which begins with these jobs.
   *
   * @param owner undefined: of all owners
   * @param only of this job alone
   * @param cutOff ends the connection of a reader that is too slow
   */
  open({ owner, jobs, left, only, cutOff }: Opening): Response {
    let client: Client | undefined
    const leave = () => {
      if (client) this.#clients.delete(client)
      client = undefined
      left()
    }
    const body = new ReadableStream<Uint8Array>(
      {
        start: async (controller) => {
          const joined: Client = {
            ...{ owner, only },
            // One that has left may still stand in the round of `#tellAll`.
            send: (bytes) => {
              if (client !== joined) return
              if ((controller.desiredSize ?? 0) > 0) return controller.enqueue(bytes)
              leave()
              if (cutOff) cutOff()
              else controller.error(new Error('the reader is too slow'))
            },
            close: () => {
              if (client !== joined) return
              leave()
              controller.close()
            },
          }
          client = joined
          joined.send(encoder.encode('retry: 1000\n\n'))
          // Joined first: a change between is told twice rather than never.
          this.#clients.add(joined)
          for (const job of await jobs.catch(() => [])) {
            joined.send(encoder.encode(this.#format({ type: 'job', job })))
            if (only !== undefined && isEnded(job)) joined.close()
          }
        },
        cancel: leave,
      },
      new ByteLengthQueuingStrategy({ highWaterMark: backlog }),
    )
    return new Response(body, { headers: eventHeaders })
  }

  /** Ends all streams. Their readers come back by themselves, to this server or to the next one. */
  close(): void {
    this.#stop()
    clearInterval(this.#comments)
    clearTimeout(this.#telling)
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
    for (const client of [...this.#clients]) client.close()
  }

  #hear(change: Change): void {
    const id = idOf(change)
    const since = performance.now() - (this.#told.get(id) ?? -least)
    const waiting = this.#waiting.get(id)
    if (isEnd(change) || since >= least) {
      if (waiting) clearTimeout(waiting.timer)
      this.#waiting.delete(id)
      this.#tell(change)
    } else if (waiting) waiting.change = change
    else {
      const timer = setTimeout(() => {
        const { change: latest } = this.#waiting.get(id) ?? {}
        this.#waiting.delete(id)
        if (latest) this.#tell(latest)
      }, least - since)
      this.#waiting.set(id, { change, timer })
    }
  }

  #tell(change: Change): void {
    if (isEnd(change)) this.#told.delete(idOf(change))
    else this.#told.set(idOf(change), performance.now())
    this.#changes.push(change)
    this.#telling ??= setTimeout(() => void this.#tellAll(), together)
  }

  /** Tells all changes since the last time. The bytes for the clients that want the same are made once. */
  async #tellAll(): Promise<void> {
    const changes = this.#changes.map((change) => ({ change, text: this.#format(change) }))
    this.#changes = []
    this.#telling = undefined
    const made = new Map<string, { readonly bytes: Uint8Array; readonly ends: boolean }>()
    let told = 0
    for (const client of [...this.#clients]) {
      const wish = JSON.stringify([client.owner ?? null, client.only ?? null])
      let news = made.get(wish)
      if (!news) {
        const wanted = changes.filter(({ change }) => wants(client, change))
        const bytes = encoder.encode(wanted.map(({ text }) => text).join(''))
        news = { bytes, ends: client.only !== undefined && wanted.some(({ change }) => isEnd(change)) }
        made.set(wish, news)
      }
      if (news.bytes.length > 0) client.send(news.bytes)
      if (news.ends) client.close()
      if (++told % clientsInTurn === 0) await nextTurn()
    }
  }

  #format(change: Change): string {
    const data = change.type === 'job' ? toVideo(change.job) : { id: change.id }
    const event = change.type === 'job' ? 'video' : 'removed'
    return `id: ${++this.#count}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
  }
}
