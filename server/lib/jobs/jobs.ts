import type { ModelFacts } from 'torchreel/options'
import { isEnded, type Job, type JobError, type JobRequest, type Made } from './job.js'

// One queue, several engines: `embedded` keeps the jobs of one machine in a folder, `bull` those of many machines in Redis.

export interface NewJob {
  /** Its files, such as the input, lie under this id already. */
  readonly id: string
  readonly owner: string
  readonly request: JobRequest
  /** sha256 of the request as it came. */
  readonly bodyHash: string
  /** The same key of the same owner gives the same job for 24 hours. */
  readonly idempotencyKey?: string
  /** The client repeats a request by itself: the same owner and body within two minutes give the same job. */
  readonly isRetry?: boolean
  readonly traceparent?: string
}

export type Change =
  | { readonly type: 'job'; readonly job: Job }
  | { readonly type: 'removed'; readonly id: string; readonly owner: string }

/** Of the changed job. */
export const idOf = (change: Change): string => (change.type === 'job' ? change.job.id : change.id)

/** Whether nothing more will change. */
export const isEnd = (change: Change): boolean => change.type === 'removed' || isEnded(change.job)

export interface Counts {
  readonly queued: number
  readonly running: number
  /** Workers that can take jobs now. */
  readonly workers: number
  /** Bytes of the kept videos, if they are known. */
  readonly bytes?: number
}

/** A model as a worker has loaded it. */
export interface ServedModel {
  readonly id: string
  readonly facts: ModelFacts
  readonly device: string
  readonly dtype: string
}

export interface Jobs {
  /**
   * Accepts a job: it is durable when this resolves.
   *
   * @returns the job, and whether it is a new one; a repeated request gives the one that was made of the first
   * @throws QueueFull, KeyReused
   */
  add(job: NewJob): Promise<{ job: Job; added: boolean }>
  get(id: string): Promise<Job | undefined>
  /** In the order of their ids. */
  list(of: {
    owner?: string | undefined
    after?: string | undefined
    limit: number
    order: 'asc' | 'desc'
  }): Promise<{ jobs: Job[]; more: boolean }>
  /** All jobs of an owner, or of everybody, that have not ended. */
  unfinished(owner?: string): Promise<Job[]>
  /** Asks for the end of a job; one that has ended stays as it is. Undefined: there is none. */
  cancel(id: string): Promise<Job | undefined>
  /** Removes a job with its files: at once if it has ended, else after its end. False: there was none. */
  remove(id: string): Promise<boolean>
  counts(): Promise<Counts>
  /** The models that workers have told of, by their ids. */
  models(): Promise<ServedModel[]>
  /** Tells of every change, with the job as it is then. @returns ends it */
  watch(seen: (change: Change) => void): () => void
  /** Takes jobs for a worker, one at a time. */
  work(worker: Worker): Promise<Working>
  /** @throws Error that says what is missing */
  ready(): Promise<void>
  close(): Promise<void>
}

/** What runs jobs: a process with the pipelines, or a function in a test. */
export interface Worker {
  readonly device: string
  /** The ids of the models whose jobs it takes. */
  readonly models: readonly string[]
  /** Whether it can take a job now. */
  readonly isUp: boolean
  /** Why it cannot, with the last words of its process. */
  readonly trouble: string | undefined
  /** How often its process was started again. */
  readonly restarts?: number
  /** Resolves when it can take a job, with what it has loaded. Rejects when the signal aborts. */
  available(signal: AbortSignal): Promise<readonly ServedModel[]>
  readonly run: RunJob
}

export interface Working {
  /** Takes no more jobs. The running one may end within the grace (ms); else it is put back, and no attempt is counted. */
  close(grace: number): Promise<void>
}

/**
 * Runs a job: its files are in place when it resolves.
 *
 * @throws JobFailed for what is the job's fault, WorkerLost if the worker died with it; anything else counts as a failure
 * with the code `ERR_INTERNAL`; `signal.reason` when aborted
 */
export type RunJob = (job: Job, on: RunningJob) => Promise<Made>

export interface RunningJob {
  readonly signal: AbortSignal
  progress(progress: NonNullable<Job['progress']>): void
  /** A preview has been written. */
  preview(): void
}

/** As many jobs wait as may. */
export class QueueFull extends Error {
  override readonly name = 'QueueFull'
}

/** The queue's database does not answer. */
export class QueueAway extends Error {
  override readonly name = 'QueueAway'
}

/** An idempotency key came with another request. */
export class KeyReused extends Error {
  override readonly name = 'KeyReused'
}

/** The worker ended, or does not answer. */
export class WorkerLost extends Error {
  override readonly name = 'WorkerLost'
}

export class JobFailed extends Error {
  override readonly name = 'JobFailed'
  constructor(
    readonly code: string,
    message: string,
    readonly parameter?: string,
  ) {
    super(message)
  }
}

/** Why a job failed that threw this. */
export function errorOf(thrown: unknown): JobError {
  if (thrown instanceof JobFailed) {
    const { code, message, parameter } = thrown
    return { code, message, ...(parameter !== undefined && { parameter }) }
  }
  return { code: 'ERR_INTERNAL', message: thrown instanceof Error ? thrown.message : String(thrown) }
}
