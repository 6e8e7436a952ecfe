import type { Logger } from 'pino'
import { isEnded, type Job } from './job.js'
import type { Change, Jobs } from './jobs.js'
import { createRecord, removeRecord, writeRecord } from './records.js'

/** All jobs in memory, with each change written to the job's folder, and told to whoever watches. */
export class JobStore {
  readonly #folder: string
  readonly #logger: Logger
  /** Adds what is not in the record: a waiting job's place. */
  readonly #complete: (job: Job) => Job
  readonly #jobs = new Map<string, Job>()
  /** Sorted. */
  readonly #ids: string[] = []
  readonly #watchers = new Set<(change: Change) => void>()
  /** The last write of a job's record, to keep them in order. */
  readonly #writes = new Map<string, Promise<void>>()
  /** Jobs whose last change is not on disk yet, and why. */
  readonly #unwritten = new Map<string, string>()

  constructor(folder: string, logger: Logger, complete: (job: Job) => Job) {
    this.#folder = folder
    this.#logger = logger
    this.#complete = complete
  }

  get size(): number {
    return this.#ids.length
  }

  /** Why a change could not be written; undefined: all are on disk. */
  get trouble(): string | undefined {
    return this.#unwritten.values().next().value
  }

  /** As it is in the record. */
  find(id: string): Job | undefined {
    return this.#jobs.get(id)
  }

  /** As others see it. */
  get(id: string): Job | undefined {
    const job = this.#jobs.get(id)
    return job && this.#complete(job)
  }

  values(): Iterable<Job> {
    return this.#jobs.values()
  }

  /** The jobs that have ended, the newest first. */
  ended(): Job[] {
    return this.#ids
      .map((id) => this.#jobs.get(id) as Job)
      .filter(isEnded)
      .reverse()
  }

  list({ owner, after, limit, order }: Parameters<Jobs['list']>[0]): { jobs: Job[]; more: boolean } {
    const step = order === 'asc' ? 1 : -1
    const start = order === 'asc' ? 0 : this.#ids.length - 1
    const found: Job[] = []
    for (let i = after === undefined ? start : this.#indexAfter(after, order); ; i += step) {
      const id = this.#ids[i]
      if (id === undefined) return { jobs: found, more: false }
      const job = this.#jobs.get(id) as Job
      if (owner !== undefined && job.owner !== owner) continue
      if (found.length === limit) return { jobs: found, more: true }
      found.push(this.#complete(job))
    }
  }

  /** Writes the first record of a job; the store has it only after `insert`. */
  create(job: Job): Promise<void> {
    return createRecord(this.#folder, job)
  }

  /** Takes a job whose record is on disk. */
  insert(job: Job): void {
    this.#jobs.set(job.id, job)
    this.#ids.splice(this.#indexOf(job.id), 0, job.id)
  }

  /** Changes a job in memory only. */
  put(job: Job): void {
    this.#jobs.set(job.id, job)
    this.tell(job.id)
  }

  /** Changes a job in memory and on disk. What cannot be written is written later: memory is right until then. */
  async change(job: Job): Promise<void> {
    this.put(job)
    await this.write(job).catch((error) => {
      this.#logger.error({ job: job.id, error: error.message }, 'a record could not be written')
    })
  }

  /** Writes a job's record, after the writes that were begun before. */
  async write(job: Job): Promise<void> {
    const before = this.#writes.get(job.id) ?? Promise.resolve()
    const write = before.then(async () => {
      try {
        await writeRecord(this.#folder, job)
        this.#unwritten.delete(job.id)
      } catch (error) {
        if (this.#jobs.has(job.id)) this.#unwritten.set(job.id, (error as Error).message)
        throw error
      }
    })
    const settled = write.catch(() => {})
    this.#writes.set(job.id, settled)
    void settled.then(() => this.#writes.get(job.id) === settled && this.#writes.delete(job.id))
    await write
  }

  /** Tries once more to write what could not be written. */
  writeAgain(): void {
    for (const id of this.#unwritten.keys()) {
      const job = this.#jobs.get(id)
      if (job) this.write(job).catch(() => {})
    }
  }

  /** Until all writes that were begun are done. */
  async flush(): Promise<void> {
    await Promise.all(this.#writes.values())
  }

  /** Removes a job with its files. */
  async remove({ id, owner }: Job): Promise<void> {
    await this.#writes.get(id)
    this.#jobs.delete(id)
    this.#unwritten.delete(id)
    const index = this.#indexOf(id)
    if (this.#ids[index] === id) this.#ids.splice(index, 1)
    await removeRecord(this.#folder, id)
    this.#announce({ type: 'removed', id, owner })
  }

  watch(seen: (change: Change) => void): () => void {
    this.#watchers.add(seen)
    return () => this.#watchers.delete(seen)
  }

  /** Tells the watchers of a job as it is now. */
  tell(id: string): void {
    const job = this.get(id)
    if (job) this.#announce({ type: 'job', job })
  }

  #announce(change: Change): void {
    for (const seen of this.#watchers) {
      try {
        seen(change)
      } catch (error) {
        this.#logger.error({ error: (error as Error).message }, 'a watcher of jobs failed')
      }
    }
  }

  /** Where an id is in the sorted list, or would be. */
  #indexOf(id: string): number {
    let low = 0
    let high = this.#ids.length
    if (high === 0 || (this.#ids[high - 1] as string) < id) return high
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#ids[middle] as string) < id) low = middle + 1
      else high = middle
    }
    return low
  }

  #indexAfter(id: string, order: 'asc' | 'desc'): number {
    const index = this.#indexOf(id)
    if (order === 'desc') return index - 1
    return this.#ids[index] === id ? index + 1 : index
  }
}
