import type { Job } from '../jobs/job.js'
import { isEnded } from '../jobs/job.js'
import type { Change, Jobs } from '../jobs/jobs.js'
import { toVideo } from '../videos.js'

// Server-sent events: each tells of one video as it is now. There is nothing to replay: whoever missed some is right again with
// the next one.

const least = 250
const commentEvery = 15_000
/** Bytes that may wait for a slow reader. */
const backlog = 2 ** 20

interface Client {
  readonly wants: (change: Change) => boolean
  /** Ends after this job's end. */
  readonly only: string | undefined
  send(text: string): void
  close(): void
}

interface Opening {
  readonly owner: string | undefined
  readonly jobs: Promise<readonly Job[]>
  readonly left: () => void
  readonly only?: string
  readonly cutOff: (() => void) | undefined
}

const ownerOf = (change: Change) => (change.type === 'job' ? change.job.owner : change.owner)
const idOf = (change: Change) => (change.type === 'job' ? change.job.id : change.id)

/** Tells clients of changes: at most four a second of a job, and the last one always. */
export class Events {
  readonly #clients = new Set<Client>()
  readonly #waiting = new Map<string, { change: Change; timer: NodeJS.Timeout }>()
  readonly #told = new Map<string, number>()
  readonly #stop: () => void
  readonly #comments: NodeJS.Timeout
  #count = 0

  constructor(jobs: Jobs) {
    this.#stop = jobs.watch((change) => this.#hear(change))
    this.#comments = setInterval(() => this.#broadcast(() => ': \n\n'), commentEvery)
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
    const encoder = new TextEncoder()
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
            only,
            wants: (change) =>
              (owner === undefined || ownerOf(change) === owner) &&
              (only === undefined || idOf(change) === only),
            send: (text) => {
              if ((controller.desiredSize ?? 0) > 0) return controller.enqueue(encoder.encode(text))
              leave()
              if (cutOff) cutOff()
              else controller.error(new Error('the reader is too slow'))
            },
            close: () => {
              leave()
              controller.close()
            },
          }
          client = joined
          joined.send('retry: 1000\n\n')
          // Joined first: a change between is told twice rather than never.
          this.#clients.add(joined)
          for (const job of await jobs.catch(() => [])) {
            if (client !== joined) return
            joined.send(this.#format({ type: 'job', job }))
            if (only !== undefined && isEnded(job)) joined.close()
          }
        },
        cancel: leave,
      },
      new ByteLengthQueuingStrategy({ highWaterMark: backlog }),
    )
    return new Response(body, {
      headers: {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      },
    })
  }

  /** Ends all streams. Their readers come back by themselves, to this server or to the next one. */
  close(): void {
    this.#stop()
    clearInterval(this.#comments)
    for (const { timer } of this.#waiting.values()) clearTimeout(timer)
    for (const client of [...this.#clients]) client.close()
  }

  #hear(change: Change): void {
    const id = idOf(change)
    const since = performance.now() - (this.#told.get(id) ?? -least)
    const waiting = this.#waiting.get(id)
    if (change.type === 'removed' || isEnded(change.job) || since >= least) {
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
    const ended = change.type === 'removed' || isEnded(change.job)
    if (ended) this.#told.delete(idOf(change))
    else this.#told.set(idOf(change), performance.now())
    let text: string | undefined
    this.#broadcast((client) => {
      if (!client.wants(change)) return undefined
      text ??= this.#format(change)
      return text
    })
    if (!ended) return
    for (const client of [...this.#clients])
      if (client.only !== undefined && client.wants(change)) client.close()
  }

  #broadcast(textFor: (client: Client) => string | undefined): void {
    for (const client of [...this.#clients]) {
      const text = textFor(client)
      if (text !== undefined) client.send(text)
    }
  }

  #format(change: Change): string {
    const data = change.type === 'job' ? toVideo(change.job) : { id: change.id }
    const event = change.type === 'job' ? 'video' : 'removed'
    return `id: ${++this.#count}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
  }
}
