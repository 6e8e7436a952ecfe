import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { Worker as BullWorker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { type FileName, type Files, filesUntilEnd } from '../../files/files.js'
import { cancelledError, type Job, lostError, type Made, maxAttempts } from '../job.js'
import { errorOf, JobFailed, type ServedModel, type Worker, WorkerLost, type Working } from '../jobs.js'
import { type Data, failure, type Kept, lostTooOften, type Told } from './record.js'
import { decisionLasts, keys, patientConnection, prefix, queueName } from './redis.js'

export interface WorkOptions {
  readonly url: string
  readonly logger: Logger
  readonly lockFor: number
  readonly maxRunMs: number
  readonly files: Files
  load(kept: Kept): Promise<Job>
  ended(kept: Kept): Promise<void>
}

/** How often an idle worker looks for a job, and a busy one for a cancel that it was not told of (ms). */
const looksEvery = 250
const looksForCancelEvery = 2000
/** How often progress is written (ms). */
const tellsEvery = 250
/** How often a worker says what it has loaded, and how long that holds (ms). */
const announcesEvery = 5000
const announcementLasts = 15_000

/** The reasons for which a run is aborted. */
const putBack = Symbol('the worker is closed')
const cancelled = Symbol('the job is cancelled')

/** A run of a job that this worker holds the lock of. */
interface Run {
  readonly kept: Kept
  readonly token: string
  readonly abort: AbortController
}

/** Takes the jobs of one device, one at a time, from the queues of the models that it has loaded. */
export class BullWork implements Working {
  readonly #worker: Worker
  readonly #options: WorkOptions
  readonly #name = randomUUID()
  readonly #redis: Redis
  readonly #queues: BullWorker<Data, Made>[]
  readonly #closing = new AbortController()
  readonly #done: Promise<void>
  #run: Run | undefined

  constructor(worker: Worker, options: WorkOptions) {
    this.#worker = worker
    this.#options = options
    this.#redis = patientConnection(options.url, options.logger)
    // They hand out jobs when asked, and give those of lost workers to others.
    this.#queues = worker.models.map((model) => {
      const queue = new BullWorker<Data, Made>(queueName(model), null, {
        ...{ connection: this.#redis, prefix, autorun: false },
        ...{ lockDuration: options.lockFor, stalledInterval: options.lockFor / 2, maxStalledCount: 1 },
      })
      queue.on('error', (error) => options.logger.warn({ err: error.message }, 'worker'))
      queue.on('stalled', (id) => {
        this.#publish(id).catch((error: Error) => options.logger.warn({ err: error.message }, 'worker'))
      })
      return queue
    })
    this.#done = this.#work()
  }

  /** Looks at once whether the running job is cancelled. */
  look(id: string): void {
    if (this.#run?.kept.id === id) void this.#lookForCancel(this.#run)
  }

  async close(grace: number): Promise<void> {
    this.#closing.abort()
    const ended = await Promise.race([this.#done.then(() => true), wait(grace, false)])
    if (!ended) this.#run?.abort.abort(putBack)
    await this.#done
    await this.#redis.del(keys.worker(this.#name)).catch(() => {})
    for (const queue of this.#queues) await queue.close(true)
    this.#redis.disconnect()
  }

  async #work(): Promise<void> {
    const { logger } = this.#options
    const { signal } = this.#closing
    await Promise.all(this.#queues.map((queue) => queue.startStalledCheckTimer()))
    let announcing: NodeJS.Timeout | undefined
    try {
      while (!signal.aborted) {
        try {
          const loaded = await this.#worker.available(signal)
          await this.#announce(loaded)
          clearInterval(announcing)
          announcing = setInterval(() => void this.#announce(loaded), announcesEvery)
          const run = await this.#next()
          if (run) await this.#finish(run)
          else await wait(looksEvery, undefined, { signal })
        } catch (error) {
          if (signal.aborted) break
          logger.warn({ err: (error as Error).message }, 'worker')
          await wait(1000, undefined, { signal }).catch(() => {})
        }
      }
    } finally {
      clearInterval(announcing)
    }
  }

  async #announce(loaded: readonly ServedModel[]): Promise<void> {
    try {
      await this.#redis.set(keys.worker(this.#name), JSON.stringify(loaded), 'PX', announcementLasts)
      await this.#redis.sadd(keys.workers, this.#name)
    } catch (error) {
      this.#options.logger.warn({ err: (error as Error).message }, 'worker')
    }
  }

  /** The queue that was not asked last comes first. */
  async #next(): Promise<Run | undefined> {
    for (let tries = this.#queues.length; tries > 0; tries--) {
      const queue = this.#queues.shift() as BullWorker<Data, Made>
      this.#queues.push(queue)
      const token = randomUUID()
      const kept = (await queue.getNextJob(token, { block: false })) as Kept | undefined
      if (kept) return { kept, token, abort: new AbortController() }
    }
    return undefined
  }

  async #finish(run: Run): Promise<void> {
    const { kept } = run
    const id = kept.id as string
    this.#run = run
    const keeping = this.#keepLock(run)
    const looking = setInterval(() => void this.#lookForCancel(run), looksForCancelEvery)
    const teller = this.#teller(kept)
    const { maxRunMs } = this.#options
    const seconds = Math.round(maxRunMs / 1000)
    const timeout = new JobFailed('timeout', `The job ran longer than ${seconds} seconds.`)
    const timer = setTimeout(() => run.abort.abort(timeout), maxRunMs)
    try {
      // BullMQ leaves it to the next worker to fail a job that was lost too often.
      if (kept.deferredFailure) throw new JobFailed('worker_lost', lostTooOften)
      await this.#publish(id)
      await this.#lookForCancel(run)
      const job = await this.#options.load(kept)
      const { signal } = run.abort
      signal.throwIfAborted()
      const made = await this.#worker.run(job, { signal, ...teller })
      signal.throwIfAborted()
      await this.#complete(run, made)
    } catch (error) {
      await this.#end(run, error)
    } finally {
      clearInterval(keeping)
      clearInterval(looking)
      clearTimeout(timer)
      teller.stop()
      this.#run = undefined
    }
  }

  /** Completes the job, unless its end was asked for before. */
  async #complete({ kept, token }: Run, made: Made): Promise<void> {
    const id = kept.id as string
    await this.#redis.set(keys.decision(id), 'end', 'PX', decisionLasts, 'NX')
    if ((await this.#redis.get(keys.decision(id))) === 'cancel') throw cancelled
    await kept.moveToCompleted(made, token, false)
    this.#options.logger.info({ job: id, owner: kept.data.owner, state: 'completed' }, 'job')
    await this.#removeFiles(id, filesUntilEnd)
    await this.#options.ended(kept)
  }

  async #end(run: Run, error: unknown): Promise<void> {
    const { kept, token, abort } = run
    const { logger } = this.#options
    const id = kept.id as string
    const { reason } = abort.signal
    try {
      if (reason instanceof WorkerLost) return logger.warn({ job: id }, reason.message)
      if (
        reason === putBack ||
        (error instanceof WorkerLost && (await this.#options.load(kept)).attempt < maxAttempts)
      ) {
        if (reason === putBack) await this.#redis.incr(keys.returns(id))
        await kept.moveToWait(token)
        return await this.#publish(id)
      }
      const isCancelled = (await this.#redis.get(keys.decision(id))) === 'cancel'
      await this.#removeFiles(id)
      const why = isCancelled
        ? cancelledError
        : error instanceof WorkerLost && !(reason instanceof JobFailed)
          ? lostError(kept.attemptsStarted, error.message)
          : errorOf(reason instanceof JobFailed ? reason : error)
      await kept.moveToFailed(failure(why), token, false)
      logger.info({ job: id, owner: kept.data.owner, state: 'failed', code: why.code }, 'job')
      await this.#options.ended(kept)
    } catch (lost) {
      logger.warn({ job: id, err: (lost as Error).message }, 'the end of a job was not recorded')
    }
  }

  /** Files that cannot be removed now go with the job. */
  async #removeFiles(id: string, names?: readonly FileName[]): Promise<void> {
    await this.#options.files.remove(id, names).catch((error: Error) => {
      this.#options.logger.warn({ job: id, err: error.message }, 'files could not be removed')
    })
  }

  /** Without its lock a job belongs to another worker: this one must not go on. */
  #keepLock({ kept, token, abort }: Run): NodeJS.Timeout {
    const { lockFor } = this.#options
    let renewed = performance.now()
    return setInterval(async () => {
      const asked = performance.now()
      const lose = () => abort.abort(new WorkerLost('the lock of the job ran out'))
      if (asked - renewed > lockFor) return lose()
      const extended = await kept.extendLock(token, lockFor).catch(() => undefined)
      if (extended === 0) lose()
      if (extended) renewed = asked
    }, lockFor / 4)
  }

  async #lookForCancel({ kept, abort }: Run): Promise<void> {
    const decision = await this.#redis.get(keys.decision(kept.id as string)).catch(() => null)
    if (decision === 'cancel') abort.abort(cancelled)
  }

  /** Writes progress four times a second at most, the last one always. */
  #teller(kept: Kept) {
    let previews = 0
    let latest: Job['progress']
    let timer: NodeJS.Timeout | undefined
    let written = 0
    const write = async () => {
      timer = undefined
      written = performance.now()
      try {
        await kept.updateProgress({ ...(latest as NonNullable<Job['progress']>), previews } satisfies Told)
        await this.#publish(kept.id as string)
      } catch (error) {
        this.#options.logger.warn({ err: (error as Error).message }, 'progress')
      }
    }
    const soon = () => {
      timer ??= setTimeout(() => void write(), Math.max(0, tellsEvery - (performance.now() - written)))
    }
    return {
      progress: (progress: NonNullable<Job['progress']>) => {
        latest = progress
        soon()
      },
      preview: () => {
        previews++
        if (latest) soon()
      },
      stop: () => clearTimeout(timer),
    }
  }

  async #publish(id: string): Promise<void> {
    await this.#redis.publish(keys.changes, id)
  }
}
