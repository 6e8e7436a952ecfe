import type { Job } from './job.js'
import { KeyReused, type NewJob } from './jobs.js'

const keyLasts = 24 * 3_600_000
const retryLasts = 120_000

/** An accepted request, or one that is being accepted. */
interface Known {
  readonly bodyHash: string
  readonly at: number
  readonly id: Promise<string>
}

type Asked = Pick<NewJob, 'owner' | 'bodyHash' | 'idempotencyKey'>

/** Knows which request is an earlier one again, by its key, or because the client says that it repeats it. */
export class RepeatedRequests {
  readonly #byKey = new Map<string, Known>()
  readonly #byBody = new Map<string, Known>()

  /**
   * The id of the job that was made of the request before.
   *
   * @throws KeyReused
   */
  find(asked: Asked & Pick<NewJob, 'isRetry'>): Promise<string> | undefined {
    const { idempotencyKey, bodyHash, isRetry } = asked
    if (idempotencyKey !== undefined) {
      const known = this.#byKey.get(keyOf(asked))
      if (!known || Date.now() - known.at > keyLasts) return undefined
      if (known.bodyHash === bodyHash) return known.id
      throw new KeyReused(`the idempotency key ${idempotencyKey} came with another request before`)
    }
    const known = isRetry ? this.#byBody.get(bodyOf(asked)) : undefined
    return known && Date.now() - known.at <= retryLasts ? known.id : undefined
  }

  /** Notes a request while it is accepted. If it is not, it was none. */
  claim(job: Job, id: Promise<string>): void {
    const known = { bodyHash: job.bodyHash, at: job.createdAt, id }
    if (job.idempotencyKey !== undefined) this.#byKey.set(keyOf(job), known)
    this.#byBody.set(bodyOf(job), known)
    id.catch(() => this.#drop(job, known))
  }

  /** Notes an accepted request. */
  note(job: Job): void {
    this.claim(job, Promise.resolve(job.id))
  }

  forget(job: Job): void {
    const [byKey, byBody] = [this.#byKey.get(keyOf(job)), this.#byBody.get(bodyOf(job))]
    if (job.idempotencyKey !== undefined && byKey?.at === job.createdAt) this.#byKey.delete(keyOf(job))
    if (byBody?.at === job.createdAt) this.#byBody.delete(bodyOf(job))
  }

  #drop(job: Job, known: Known): void {
    if (this.#byKey.get(keyOf(job)) === known) this.#byKey.delete(keyOf(job))
    if (this.#byBody.get(bodyOf(job)) === known) this.#byBody.delete(bodyOf(job))
  }
}

const keyOf = ({ owner, idempotencyKey }: Asked) => JSON.stringify([owner, idempotencyKey])
const bodyOf = ({ owner, bodyHash }: Asked) => JSON.stringify([owner, bodyHash])
