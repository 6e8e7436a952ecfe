import { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { QueueAway } from '../jobs.js'

// What is kept in Redis beside BullMQ's queues. BullMQ has a queue for each model, and no order over all of them.

/** The beginning of all keys. */
export const prefix = 'torchreel'

export const keys = {
  /** A sorted set of `ID MODEL`: every job that BullMQ may have, in the order of ids. */
  index: `${prefix}:index`,
  /** A set of the models that jobs were made for: each has a queue. */
  models: `${prefix}:models`,
  /** The job that a request with this idempotency key, or this body, made: `ID BODYHASH`. */
  idempotency: (owner: string, key: string) => `${prefix}:key:${encode(owner)}:${encode(key)}`,
  body: (owner: string, hash: string) => `${prefix}:body:${encode(owner)}:${hash}`,
  /** How the running attempt ends: 'cancel' or 'end', whichever was said first. */
  decision: (id: string) => `${prefix}:decision:${id}`,
  /** The job is to be removed after its end. */
  removal: (id: string) => `${prefix}:removal:${id}`,
  /** How often a worker has put the job back because it was closed. */
  returns: (id: string) => `${prefix}:returns:${id}`,
  /** The record of a job that was cancelled while it waited. */
  cancelled: (id: string) => `${prefix}:cancelled:${id}`,
  /** A set of the workers' names, and what each has loaded, for as long as it renews it. */
  workers: `${prefix}:workers`,
  worker: (name: string) => `${prefix}:worker:${name}`,
  /** A channel: the ids of jobs that have changed. */
  changes: `${prefix}:changes`,
} as const

const encode = encodeURIComponent

/** How long a decision and the wish for a removal hold (ms): longer than any run. */
export const decisionLasts = 24 * 3_600_000

/** A name that BullMQ takes for a queue: it must not have a colon. */
export const queueName = (model: string): string => encode(model)

/** How long a request waits for Redis (ms). */
const patience = 1000

/** For requests: fails within a second while Redis is away, and comes back by itself. */
export function requestConnection(url: string, logger: Logger): Redis {
  const redis = new Redis(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    connectTimeout: patience,
    commandTimeout: patience,
    retryStrategy: (times) => Math.min(100 * times, 2000),
  })
  redis.on('error', (error) => logger.warn({ err: error.message }, 'redis'))
  return redis
}

/** For workers and subscriptions: waits for Redis for as long as it takes. */
export function patientConnection(url: string, logger: Logger): Redis {
  const redis = new Redis(url, {
    maxRetriesPerRequest: null,
    retryStrategy: (times) => Math.min(100 * times, 2000),
  })
  redis.on('error', (error) => logger.warn({ err: error.message }, 'redis'))
  return redis
}

/** @throws QueueAway in place of the client's errors about the connection */
export async function reach<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { message, name } = error as Error
    const away =
      name === 'MaxRetriesPerRequestError' ||
      /Connection is closed|Stream isn't writeable|Command timed out|ECONN|LOADING|READONLY/.test(message)
    throw away ? new QueueAway(`Redis does not answer: ${message}`) : error
  }
}

/**
 * Looks whether this Redis keeps jobs.
 *
 * @returns what the operator should know
 * @throws Error if it may throw jobs away
 */
export async function checkRedis(redis: Redis): Promise<string[]> {
  const setting = async (name: string) => ((await redis.config('GET', name)) as string[])[1]
  let policy: string | undefined
  let appends: string | undefined
  try {
    policy = await setting('maxmemory-policy')
    appends = await setting('appendonly')
  } catch {
    return [
      'Redis does not show its settings. Make sure that maxmemory-policy is noeviction and appendonly is yes',
    ]
  }
  if (policy !== 'noeviction') {
    throw new Error(
      `Redis throws keys away when its memory is full (maxmemory-policy ${policy}). Set it with: redis-cli config set maxmemory-policy noeviction`,
    )
  }
  return appends === 'yes'
    ? []
    : ['Redis loses jobs of the last minutes when it ends. Set it with: redis-cli config set appendonly yes']
}
