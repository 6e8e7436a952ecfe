import type { Job as BullJob } from 'bullmq'
import { cancelledError, type Job, type JobError, type Made, type State } from '../job.js'
import type { NewJob } from '../jobs.js'

// A job as BullMQ keeps it, and as the server knows it.

/** What BullMQ keeps of a new job. */
export type Data = Omit<NewJob, 'id' | 'isRetry'>

/** Of the running attempt. */
export type Told = NonNullable<Job['progress']> & { readonly previews: number }

export type Kept = BullJob<Data, Made, string>

/** What stands beside a job in Redis. */
export interface Beside {
  /** 'cancel' if its end was asked for. */
  readonly decision: string | null
  /** How often a worker put it back. */
  readonly returns: number
  /** Its place among the waiting jobs, from 1. */
  readonly position?: number | undefined
  /** Milliseconds that an ended job is kept. */
  readonly keepMs: number
}

/** Ends with a reason as JSON, because BullMQ keeps only a message. */
export const failure = (error: JobError): Error => new Error(JSON.stringify(error))

export const lostTooOften = 'The worker was lost with this job twice.'

/** BullMQ itself fails a job whose worker was lost too often. */
function readFailure(reason: string): JobError {
  if (reason.startsWith('{')) return JSON.parse(reason) as JobError
  if (/stalled/.test(reason)) return { code: 'worker_lost', message: lostTooOften }
  return { code: 'ERR_INTERNAL', message: reason }
}

/** @param state BullMQ's */
export function toJob(kept: Kept, state: string, { decision, returns, position, keepMs }: Beside): Job {
  const { data, returnvalue, failedReason, timestamp, processedOn, finishedOn } = kept
  const { request, owner, bodyHash, idempotencyKey, traceparent } = data
  const error = state === 'failed' ? readFailure(failedReason) : undefined
  const told = (typeof kept.progress === 'object' ? kept.progress : undefined) as Told | undefined
  const { previews = 0, ...progress } = told ?? {}
  const now = stateOf(state, error, decision)
  const runs = now === 'running' || now === 'cancelling'
  return {
    ...{ id: kept.id as string, owner, request, state: now, bodyHash },
    attempt: Math.max(0, kept.attemptsStarted - returns),
    createdAt: timestamp,
    previews,
    ...(processedOn !== undefined && {
      startedAt: processedOn,
      waitedMs: Math.max(0, processedOn - timestamp),
    }),
    ...(finishedOn !== undefined && { endedAt: finishedOn, expiresAt: finishedOn + keepMs }),
    ...(error && { error }),
    ...(now === 'completed' && { made: returnvalue }),
    ...(runs && told && { progress: progress as NonNullable<Job['progress']> }),
    ...(now === 'queued' && position !== undefined && { position }),
    ...(idempotencyKey !== undefined && { idempotencyKey }),
    ...(traceparent !== undefined && { traceparent }),
  }
}

function stateOf(state: string, error: JobError | undefined, decision: string | null): State {
  if (state === 'completed') return 'completed'
  if (state === 'failed') return error?.code === cancelledError.code ? 'cancelled' : 'failed'
  if (decision === 'cancel') return 'cancelling'
  return state === 'active' ? 'running' : 'queued'
}
