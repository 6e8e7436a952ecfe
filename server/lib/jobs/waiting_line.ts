import type { Job } from './job.js'

/** The ids of waiting jobs, the next one first, and since when each waits, by the monotonic clock. */
export class WaitingLine {
  readonly #ids: string[] = []
  readonly #since = new Map<string, number>()

  get length(): number {
    return this.#ids.length
  }

  get ids(): readonly string[] {
    return this.#ids
  }

  /** Adds a job at the end. */
  join(id: string): void {
    this.#since.set(id, performance.now())
    this.#ids.push(id)
  }

  /** Adds a job at the front. */
  joinFirst(id: string): void {
    this.#since.set(id, performance.now())
    this.#ids.unshift(id)
  }

  /** @returns the milliseconds that it waited */
  leave(id: string): number {
    const index = this.#ids.indexOf(id)
    if (index >= 0) this.#ids.splice(index, 1)
    const since = this.#since.get(id)
    this.#since.delete(id)
    return since === undefined ? 0 : performance.now() - since
  }

  /** A waiting job with its place, any other as it is. */
  withPlace(job: Job): Job {
    const index = job.state === 'queued' ? this.#ids.indexOf(job.id) : -1
    return index < 0 ? job : { ...job, position: index + 1 }
  }
}
