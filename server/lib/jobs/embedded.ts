import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import type { Logger } from 'pino'
import { allFiles, type FileName, type Files } from '../files/files.js'
import { FolderFiles } from '../files/folder.js'
import { FolderLock } from './folder_lock.js'
import {
  afterLoss,
  cancelledError,
  isEnded,
  isUnfinished,
  type Job,
  type JobError,
  moved,
  noteId,
} from './job.js'
import { JobStore } from './job_store.js'
import {
  type Change,
  type Counts,
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

export interface EmbeddedOptions {
  /** Belongs to this queue alone. */
  readonly folder: string
  readonly logger: Logger
  /** Jobs that may wait. @defaultValue 256 */
  readonly maxWaiting?: number
  /** Milliseconds that a job may run. @defaultValue an hour */
  readonly maxRunMs?: number
  /** Ended jobs that are kept, the newest. @defaultValue 10000 */
  readonly keepJobs?: number
  /** Milliseconds that an ended job is kept. @defaultValue for ever */
  readonly keepMs?: number
  /** Bytes of videos that are kept. @defaultValue any number */
  readonly keepBytes?: number
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
  readonly #options: Required<Omit<EmbeddedOptions, 'folder'>>
  readonly #lock: FolderLock
  readonly #store: JobStore
  /** Ids of waiting jobs, the next one first. */
  readonly #waiting: string[] = []
  /** Jobs that are being accepted. */
  #entering = 0
  readonly #running = new Map<string, Running>()
  readonly #repeated = new RepeatedRequests()
  /** When jobs began to wait, by the monotonic clock. */
  readonly #since = new Map<string, number>()
  readonly #workers = new Set<Worker>()
  readonly #models = new Map<string, ServedModel>()
  /** Wakes workers that wait for a job. */
  readonly #wake = new Set<() => void>()
  readonly #timers: NodeJS.Timeout[]
  #closed = false

  private constructor(options: EmbeddedOptions, folder: string, lock: FolderLock) {
    const defaults = {
      maxWaiting: 256,
      maxRunMs: hour,
      keepJobs: 10_000,
      keepMs: Infinity,
      keepBytes: Infinity,
    }
    this.#options = { ...defaults, ...options }
    this.#folder = folder
    this.#lock = lock
    this.files = new FolderFiles(folder)
    this.#store = new JobStore(folder, this.#options.logger, (job) => this.#withPlace(job))
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
    const lost: string[] = []
    for (const job of jobs) {
      if (job.state === 'queued') {
        this.#waiting.push(job.id)
        continue
      }
      if (isEnded(job)) continue
      const made = job.state === 'running' ? await readResult(this.#folder, job.id) : undefined
      const now = made
        ? moved(job, 'completed', { made, ...this.#ending() })
        : afterLoss(job, 'the server ended')
      if (now.state === 'queued') lost.push(job.id)
      if (now.state === 'failed' || now.state === 'cancelled') await this.#removeFiles(job.id, allFiles)
      await this.#change(now)
    }
    this.#waiting.unshift(...lost)
    for (const id of this.#waiting) this.#since.set(id, performance.now())
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
    this.#since.set(job.id, performance.now())
    this.#waiting.push(job.id)
    this.#store.tell(job.id)
    this.#wakeWorkers()
    return { job: this.#withPlace(job), added: true }
  }

  async get(id: string): Promise<Job | undefined> {
    return this.#store.get(id)
  }

  async list(of: Parameters<Jobs['list']>[0]): Promise<{ jobs: Job[]; more: boolean }> {
    return this.#store.list(of)
  }

  async unfinished(owner?: string): Promise<Job[]> {
    const ids = [...this.#running.keys(), ...this.#waiting]
    return ids.flatMap((id) => {
      const job = this.#store.get(id)
      return job && isUnfinished(job) && (owner === undefined || job.owner === owner) ? [job] : []
    })
  }

  async cancel(id: string): Promise<Job | undefined> {
    const job = this.#store.find(id)
    if (job?.state === 'queued') {
      this.#unqueue(id)
      await this.#change(moved(job, 'cancelled', { error: cancelledError, ...this.#ending() }))
      await this.#removeFiles(id, allFiles)
    } else if (job?.state === 'running') {
      const written = this.#change(moved(job, 'cancelling'))
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
    return this.#waiting.find((id) => models.includes((this.#store.find(id) as Job).request.model))
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
    this.#unqueue(id)
    let end = () => {}
    const ended = new Promise<void>((resolve) => {
      end = resolve
    })
    const abort = new AbortController()
    this.#running.set(id, { worker, abort, ended })
    try {
      const waitedMs = performance.now() - (this.#since.get(id) ?? performance.now())
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
        this.#waiting.unshift(running.id)
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
      await this.#removeFiles(id, ['input', 'preview.png'])
      // A cancel that came first counts: its end has been promised.
      if (current().state === 'cancelling')
        await this.#settle(current(), { state: 'cancelled', error: cancelledError })
      else await this.#change(moved(current(), 'completed', { made, ...this.#ending() }))
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
    this.#since.set(job.id, performance.now())
    this.#waiting.unshift(job.id)
    await this.#removeFiles(
      job.id,
      allFiles.filter((name) => name !== 'input'),
    )
    await this.#change(job)
  }

  async #settle(
    job: Job,
    { state, error }: { state: 'failed' | 'cancelled'; error: JobError },
  ): Promise<void> {
    await this.#change(moved(job, state, { error, ...this.#ending() }))
    await this.#removeFiles(job.id, allFiles)
  }

  #ending(): Pick<Job, 'endedAt' | 'expiresAt'> {
    const endedAt = Date.now()
    const { keepMs } = this.#options
    return { endedAt, ...(keepMs < Infinity && { expiresAt: endedAt + keepMs }) }
  }

  // ---- what is kept --------------------------------------------------------------------------------------------------

  /** Changes a job, in memory and on disk. */
  async #change(job: Job): Promise<void> {
    if (isEnded(job)) this.#since.delete(job.id)
    await this.#store.change(job)
  }

  async #removeFiles(id: string, names: readonly FileName[]): Promise<void> {
    await this.files.remove(id, names).catch((error) => {
      this.#options.logger.error({ job: id, error: error.message }, 'files could not be removed')
    })
  }

  #expiring = false

  /** Removes the oldest ended jobs that are more, older or larger than is kept. */
  async #expire(): Promise<void> {
    const { keepJobs, keepMs, keepBytes } = this.#options
    if (this.#expiring || (this.#store.size <= keepJobs && keepMs === Infinity && keepBytes === Infinity))
      return
    this.#expiring = true
    try {
      let count = 0
      let bytes = 0
      for (const job of this.#store.ended()) {
        count++
        bytes += job.made?.bytes ?? 0
        const age = Date.now() - (job.endedAt ?? Date.now())
        if (count > keepJobs || bytes > keepBytes || age > keepMs) await this.remove(job.id)
      }
    } finally {
      this.#expiring = false
    }
  }

  // ---- waiting -------------------------------------------------------------------------------------------------------

  #unqueue(id: string): void {
    const index = this.#waiting.indexOf(id)
    if (index >= 0) this.#waiting.splice(index, 1)
  }

  #withPlace(job: Job): Job {
    const index = job.state === 'queued' ? this.#waiting.indexOf(job.id) : -1
    return index < 0 ? job : { ...job, position: index + 1 }
  }

  /** The places of those that wait have changed. */
  #tellPlaces(): void {
    for (const id of this.#waiting.slice(0, 32)) this.#store.tell(id)
  }

  #wakeWorkers(): void {
    for (const wake of [...this.#wake]) wake()
  }
}

function errorOf(error: unknown): JobError {
  if (error instanceof JobFailed) {
    const { code, message, parameter } = error
    return { code, message, ...(parameter !== undefined && { parameter }) }
  }
  return { code: 'ERR_INTERNAL', message: error instanceof Error ? error.message : String(error) }
}
