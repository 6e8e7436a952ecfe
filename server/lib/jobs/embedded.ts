import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import type { Logger } from 'pino'
import { allFiles, type FileName, type Files, filesUntilEnd } from '../files/files.js'
import { FolderFiles } from '../files/folder.js'
import { FolderLock } from './folder_lock.js'
import { afterLoss, cancelledError, isUnfinished, type Job, type JobError, moved, noteId } from './job.js'
import { JobStore } from './job_store.js'
import {
  type Change,
  type Counts,
  errorOf,
  JobFailed,
  type Jobs,
  type NewJob,
  QueueFull,
  type ServedModel,
  type Worker,
  WorkerLost,
  type Working,
} from './jobs.js'
import { readRecords, readResult } from './records.js'
import { RepeatedRequests } from './repeated_requests.js'
import { beyond, type Kept } from './retention.js'
import { WaitingLine } from './waiting_line.js'

export interface EmbeddedOptions {
  /** Belongs to this queue alone. */
  readonly folder: string
  readonly logger: Logger
  /** Jobs that may wait. @defaultValue 256 */
  readonly maxWaiting?: number
  /** Milliseconds that a job may run. @defaultValue an hour */
  readonly maxRunMs?: number
  /** @defaultValue 10000 jobs of any age and size */
  readonly kept?: Partial<Kept>
}

const hour = 3_600_000
const retryEvery = 5_000

/** Aborts a running job that is to be put back, because the queue closes. */
class PutBack extends Error {}

interface Running {
  readonly worker: Worker
  readonly abort: AbortController
  readonly ended: Promise<void>
}

/**
 * The queue of one machine: all records in memory, each change written to the job's folder. It owns the folder alone and
 * knows nothing of other machines.
 */
export class EmbeddedJobs implements Jobs {
  readonly files: Files
  readonly #folder: string
  readonly #options: Required<Omit<EmbeddedOptions, 'folder' | 'kept'>> & { readonly kept: Kept }
  readonly #lock: FolderLock
  readonly #store: JobStore
  readonly #waiting = new WaitingLine()
  /** Jobs that are being accepted. */
  #entering = 0
  readonly #running = new Map<string, Running>()
  readonly #repeated = new RepeatedRequests()
  readonly #workers = new Set<Worker>()
  readonly #models = new Map<string, ServedModel>()
  /** Wakes workers that wait for a job. */
  readonly #wake = new Set<() => void>()
  readonly #timers: NodeJS.Timeout[]
  #closed = false

  private constructor(options: EmbeddedOptions, folder: string, lock: FolderLock) {
    const { maxWaiting = 256, maxRunMs = hour, logger } = options
    const kept = { jobs: 10_000, ms: Infinity, bytes: Infinity, ...options.kept }
    this.#options = { maxWaiting, maxRunMs, logger, kept }
    this.#folder = folder
    this.#lock = lock
    this.files = new FolderFiles(folder)
    this.#store = new JobStore(folder, this.#options.logger, (job) => this.#waiting.withPlace(job))
    this.#timers = [
      setInterval(() => this.#store.writeAgain(), retryEvery),
      setInterval(() => void this.#expire(), hour),
    ]
    for (const timer of this.#timers) timer.unref()
  }

  /** @throws Error if another server owns the folder */
  static async open(options: EmbeddedOptions): Promise<EmbeddedJobs> {
    const folder = path.join(options.folder, 'jobs')
    await mkdir(folder, { recursive: true })
    const lock = await FolderLock.take(options.folder)
    try {
      const jobs = new EmbeddedJobs(options, folder, lock)
      await jobs.#read()
      return jobs
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  async #read(): Promise<void> {
    const { jobs, broken } = await readRecords(this.#folder)
    for (const { folder, why } of broken)
      this.#options.logger.error({ folder, why }, 'a record is broken: skipped')
    for (const job of jobs) {
      noteId(job.id)
      this.#store.insert(job)
      this.#repeated.note(job)
    }
    for (const { id, state } of jobs) if (state === 'queued') this.#waiting.join(id)
    for (const job of jobs.filter((one) => isUnfinished(one) && one.state !== 'queued').reverse()) {
      const made = job.state === 'running' ? await readResult(this.#folder, job.id) : undefined
      const now = made
        ? moved(job, 'completed', { made, ...this.#ending() })
        : afterLoss(job, 'the server ended')
      if (now.state === 'queued') this.#waiting.joinFirst(job.id)
      if (now.state === 'failed' || now.state === 'cancelled') await this.#removeFiles(job.id, allFiles)
      await this.#store.change(now)
    }
    await this.#expire()
  }

  async add(asked: NewJob): Promise<{ job: Job; added: boolean }> {
    if (this.#closed) throw new Error('the queue is closed')
    const first = this.#repeated.find(asked)
    if (first) {
      const job = this.#store.get(await first)
      if (job) return { job, added: false }
    }
    if (this.#waiting.length + this.#entering >= this.#options.maxWaiting)
      throw new QueueFull(`${this.#options.maxWaiting} jobs are waiting already`)
    const { isRetry: _, ...fields } = asked
    const job: Job = { ...fields, state: 'queued', attempt: 0, createdAt: Date.now(), previews: 0 }
    this.#entering++
    const entered = this.#store.create(job)
    this.#repeated.claim(
      job,
      entered.then(() => job.id),
    )
    try {
      await entered
    } finally {
      this.#entering--
    }
    this.#store.insert(job)
    this.#waiting.join(job.id)
    this.#store.tell(job.id)
    this.#wakeWorkers()
    return { job: this.#waiting.withPlace(job), added: true }
  }

  async get(id: string): Promise<Job | undefined> {
    return this.#store.get(id)
  }

  async list(of: Parameters<Jobs['list']>[0]): Promise<{ jobs: Job[]; more: boolean }> {
    return this.#store.list(of)
  }

  async unfinished(owner?: string): Promise<Job[]> {
    const ids = [...this.#running.keys(), ...this.#waiting.ids]
    return ids.flatMap((id) => {
      const job = this.#store.get(id)
      return job && isUnfinished(job) && (owner === undefined || job.owner === owner) ? [job] : []
    })
  }

  async cancel(id: string): Promise<Job | undefined> {
    const job = this.#store.find(id)
    if (job?.state === 'queued') {
      this.#waiting.leave(id)
      await this.#store.change(moved(job, 'cancelled', { error: cancelledError, ...this.#ending() }))
      await this.#removeFiles(id, allFiles)
    } else if (job?.state === 'running') {
      const written = this.#store.change(moved(job, 'cancelling'))
      this.#running.get(id)?.abort.abort(new Error(cancelledError.message))
      await written
    }
    return this.get(id)
  }

  async remove(id: string): Promise<boolean> {
    if (!this.#store.find(id)) return false
    await this.cancel(id)
    await this.#running.get(id)?.ended
    const job = this.#store.find(id)
    if (!job) return false
    this.#repeated.forget(job)
    await this.#store.remove(job)
    return true
  }

  async counts(): Promise<Counts> {
    const workers = [...this.#workers].filter(({ isUp }) => isUp).length
    let bytes = 0
    for (const { made } of this.#store.values()) bytes += made?.bytes ?? 0
    return { queued: this.#waiting.length, running: this.#running.size, workers, bytes }
  }

  async models(): Promise<ServedModel[]> {
    return [...this.#models.values()]
  }

  watch(seen: (change: Change) => void): () => void {
    return this.#store.watch(seen)
  }

  async work(worker: Worker): Promise<Working> {
    this.#workers.add(worker)
    const closing = new AbortController()
    const served = this.#serve(worker, closing.signal)
    return {
      close: async (grace) => {
        closing.abort()
        this.#wakeWorkers()
        const late = setTimeout(() => {
          for (const running of this.#running.values())
            if (running.worker === worker) running.abort.abort(new PutBack('the server ends'))
        }, grace)
        await served
        clearTimeout(late)
        this.#workers.delete(worker)
      },
    }
  }

  async ready(): Promise<void> {
    await this.files.ready()
    if (this.#store.trouble !== undefined)
      throw new Error(`records cannot be written: ${this.#store.trouble}`)
    const workers = [...this.#workers]
    if (workers.some(({ isUp }) => isUp)) return
    const trouble = workers.map(({ trouble }) => trouble).find((text) => text !== undefined)
    throw new Error(trouble ?? 'no worker has loaded its models yet')
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const timer of this.#timers) clearInterval(timer)
    await this.#store.flush()
    await this.#lock.release()
  }

  // ---- running -------------------------------------------------------------------------------------------------------

  async #serve(worker: Worker, closing: AbortSignal): Promise<void> {
    while (!closing.aborted) {
      try {
        for (const model of await worker.available(closing)) this.#models.set(model.id, model)
        if (closing.aborted) return
        const id = this.#nextFor(worker)
        if (id === undefined) await this.#nap(closing)
        else await this.#runOne(id, worker)
      } catch (error) {
        if (closing.aborted) return
        this.#options.logger.error({ error: (error as Error).message }, 'a worker could not take a job')
        await this.#nap(closing, retryEvery)
      }
    }
  }

  #nextFor({ models }: Worker): string | undefined {
    return this.#waiting.ids.find((id) => models.includes((this.#store.find(id) as Job).request.model))
  }

  /** Until a job comes, or the worker's state changes. */
  #nap(closing: AbortSignal, most = 1_000): Promise<void> {
    if (closing.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#wake.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, most)
      timer.unref()
      this.#wake.add(wake)
    })
  }

  async #runOne(id: string, worker: Worker): Promise<void> {
    const waiting = this.#store.find(id) as Job
    const waitedMs = this.#waiting.leave(id)
    let end = () => {}
    const ended = new Promise<void>((resolve) => {
      end = resolve
    })
    const abort = new AbortController()
    this.#running.set(id, { worker, abort, ended })
    try {
      const startedAt = Date.now()
      const attempt = waiting.attempt + 1
      await this.#begin(moved(waiting, 'running', { attempt, startedAt, waitedMs, previews: 0 }), waiting)
      await this.#finish(id, worker, abort, startedAt)
    } finally {
      this.#running.delete(id)
      end()
      this.#tellPlaces()
    }
    await this.#expire()
  }

  /** Writes that a job runs. If that fails, it waits again as before. */
  async #begin(running: Job, waiting: Job): Promise<void> {
    this.#store.put(running)
    try {
      await this.#store.write(running)
    } catch (error) {
      const now = this.#store.find(running.id) as Job
      if (now.state === 'running') {
        this.#waiting.joinFirst(running.id)
        this.#store.put(waiting)
      } else await this.#settle(now, { error: cancelledError, state: 'cancelled' })
      throw error
    }
  }

  async #finish(id: string, worker: Worker, abort: AbortController, startedAt: number): Promise<void> {
    const { maxRunMs, logger } = this.#options
    const timeout = new JobFailed(
      'timeout',
      `The job ran longer than ${Math.round(maxRunMs / 1000)} seconds.`,
    )
    const timer = setTimeout(() => abort.abort(timeout), maxRunMs)
    const current = () => this.#store.find(id) as Job
    const began = performance.now()
    try {
      if (current().state === 'cancelling') throw new Error(cancelledError.message)
      const made = await worker.run(current(), {
        signal: abort.signal,
        progress: (progress) => this.#store.put({ ...current(), progress }),
        preview: () => this.#store.put({ ...current(), previews: current().previews + 1 }),
      })
      // The result is in place: if the server ends here, the next one records the job as completed.
      await this.#removeFiles(id, filesUntilEnd)
      // A cancel that came first counts: its end has been promised.
      if (current().state === 'cancelling')
        await this.#settle(current(), { state: 'cancelled', error: cancelledError })
      else await this.#store.change(moved(current(), 'completed', { made, ...this.#ending() }))
    } catch (error) {
      await this.#afterFailure(current(), error, abort.signal.reason)
    } finally {
      clearTimeout(timer)
      const { state, attempt, error, owner } = current()
      const ms = Math.round(performance.now() - began)
      logger.info({ job: id, owner, state, attempt, code: error?.code, ms, startedAt }, 'job')
    }
  }

  async #afterFailure(job: Job, error: unknown, reason: unknown): Promise<void> {
    if (job.state === 'cancelling') return this.#settle(job, { state: 'cancelled', error: cancelledError })
    if (reason instanceof PutBack)
      return this.#requeue(moved(job, 'queued', { attempt: job.attempt - 1, previews: 0 }))
    if (reason instanceof JobFailed) return this.#settle(job, { state: 'failed', error: errorOf(reason) })
    if (!(error instanceof WorkerLost)) return this.#settle(job, { state: 'failed', error: errorOf(error) })
    const now = afterLoss(job, error.message)
    if (now.state === 'queued') return this.#requeue(now)
    return this.#settle(job, { state: 'failed', error: now.error as JobError })
  }

  /** Back to the front of the queue. */
  async #requeue(job: Job): Promise<void> {
    this.#waiting.joinFirst(job.id)
    await this.#removeFiles(
      job.id,
      allFiles.filter((name) => name !== 'input'),
    )
    await this.#store.change(job)
  }

  async #settle(
    job: Job,
    { state, error }: { state: 'failed' | 'cancelled'; error: JobError },
  ): Promise<void> {
    await this.#store.change(moved(job, state, { error, ...this.#ending() }))
    await this.#removeFiles(job.id, allFiles)
  }

  #ending(): Pick<Job, 'endedAt' | 'expiresAt'> {
    const endedAt = Date.now()
    const { ms } = this.#options.kept
    return { endedAt, ...(ms < Infinity && { expiresAt: endedAt + ms }) }
  }

  async #removeFiles(id: string, names: readonly FileName[]): Promise<void> {
    await this.files.remove(id, names).catch((error) => {
      this.#options.logger.error({ job: id, error: error.message }, 'files could not be removed')
    })
  }

  /** What cannot be removed now is tried again at the next time. */
  async #expire(): Promise<void> {
    for (const id of beyond(this.#store, this.#options.kept))
      await this.remove(id).catch((error: Error) => {
        this.#options.logger.error({ job: id, error: error.message }, 'an old job could not be removed')
      })
  }

  /** The places of those that wait have changed. */
  #tellPlaces(): void {
    for (const id of this.#waiting.ids.slice(0, 32)) this.#store.tell(id)
  }

  #wakeWorkers(): void {
    for (const wake of [...this.#wake]) wake()
  }
}
