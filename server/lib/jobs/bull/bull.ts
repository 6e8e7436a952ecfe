import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { Files } from '../../files/files.js'
import { cancelledError, isEnded, type Job, moved } from '../job.js'
import {
  type Change,
  type Counts,
  type Jobs,
  KeyReused,
  type NewJob,
  QueueFull,
  type ServedModel,
  type Worker,
  type Working,
} from '../jobs.js'
import { type Data, type Kept, toJob } from './record.js'
import {
  checkRedis,
  decisionLasts,
  keys,
  patientConnection,
  prefix,
  queueName,
  reach,
  requestConnection,
} from './redis.js'
import { BullWork } from './work.js'

export interface BullOptions {
  /** `redis://…` */
  readonly url: string
  readonly files: Files
  readonly logger: Logger
  /** Jobs that may wait. @defaultValue 256 */
  readonly maxWaiting?: number | undefined
  /** Milliseconds that a job may run. @defaultValue an hour */
  readonly maxRunMs?: number | undefined
  /** Milliseconds that a job is kept after its end. @defaultValue 30 days */
  readonly keepMs?: number | undefined
  /** Milliseconds without a sign of life after which another worker takes a job over. @defaultValue a minute */
  readonly lockFor?: number | undefined
}

/** The same idempotency key gives the same job for a day, the same body of a repeated request for two minutes. */
const keyLasts = 24 * 3_600_000
const bodyLasts = 120_000
const sweepsEvery = 3_600_000

/** Opens the queue that many machines share through Redis. @throws Error if Redis is away or may throw jobs away */
export async function openBull(options: BullOptions): Promise<Jobs> {
  const redis = requestConnection(options.url, options.logger)
  const changes = patientConnection(options.url, options.logger)
  try {
    await new Promise<void>((resolve, reject) => {
      redis.once('ready', resolve)
      redis.once('error', reject)
    })
    for (const warning of await reach(() => checkRedis(redis))) options.logger.warn(warning)
    await changes.subscribe(keys.changes)
  } catch (error) {
    redis.disconnect()
    changes.disconnect()
    throw error
  }
  return new BullJobs(options, redis, changes)
}

/**
 * Translates between the server and BullMQ. A queue for each model brings a job to a worker that has loaded the model. BullMQ
 * keeps the jobs, hands them out under a lock, and gives those of a lost worker to another one.
 */
class BullJobs implements Jobs {
  readonly #options: BullOptions & { readonly maxWaiting: number; readonly keepMs: number }
  readonly #redis: Redis
  readonly #changes: Redis
  readonly #queues = new Map<string, Queue<Data>>()
  readonly #watchers = new Set<(change: Change) => void>()
  readonly #works = new Set<BullWork>()
  readonly #sweeping: NodeJS.Timeout
  /** Jobs of the index that BullMQ did not have at the last sweep. */
  #missing = new Set<string>()
  /** The last new job's turn. */
  #entered: Promise<unknown> = Promise.resolve()

  constructor(options: BullOptions, redis: Redis, changes: Redis) {
    const { maxWaiting = 256, keepMs = 30 * 24 * 3_600_000 } = options
    this.#options = { ...options, maxWaiting, keepMs }
    this.#redis = redis
    this.#changes = changes
    changes.on('message', (_channel, message) => void this.#tell(message))
    this.#sweeping = setInterval(() => void this.#sweep(), sweepsEvery)
    this.#sweeping.unref()
  }

  async add(job: NewJob): Promise<{ job: Job; added: boolean }> {
    return reach(async () => {
      const first = await this.#firstOf(job)
      if (first) return { job: first, added: false }
      return this.#inTurn(() => this.#enter(job))
    })
  }

  /** One new job after the other, so that no more of this server's enter than may wait. */
  #inTurn<T>(enter: () => Promise<T>): Promise<T> {
    const turn = this.#entered.then(enter)
    this.#entered = turn.catch(() => {})
    return turn
  }

  async #enter(job: NewJob): Promise<{ job: Job; added: boolean }> {
    const { id, isRetry: _, ...data } = job
    const queue = this.#queue(job.request.model)
    if ((await this.counts()).queued >= this.#options.maxWaiting) {
      await this.#forgetFirst(job)
      throw new QueueFull(`${this.#options.maxWaiting} jobs wait already`)
    }
    await this.#redis.sadd(keys.models, job.request.model)
    await this.#redis.zadd(keys.index, 0, `${id} ${job.request.model}`)
    await queue.add('video', data, { jobId: id })
    await this.#publish(id)
    return { job: (await this.get(id)) as Job, added: true }
  }

  /** The job that an earlier request with the same key, or the earlier try of this one, has made. */
  async #firstOf(job: NewJob): Promise<Job | undefined> {
    const { id, owner, bodyHash, idempotencyKey, isRetry } = job
    const mine = `${id} ${bodyHash}`
    if (idempotencyKey === undefined) {
      const body = keys.body(owner, bodyHash)
      const first = isRetry ? await this.#made(await this.#redis.get(body)) : undefined
      if (!first) await this.#redis.set(body, mine, 'PX', bodyLasts)
      return first
    }
    const key = keys.idempotency(owner, idempotencyKey)
    if (await this.#redis.set(key, mine, 'PX', keyLasts, 'NX')) return undefined
    const theirs = await this.#redis.get(key)
    if (theirs && theirs.slice(theirs.indexOf(' ') + 1) !== bodyHash)
      throw new KeyReused('this idempotency key came with another request before')
    const first = await this.#made(theirs)
    if (!first) await this.#redis.set(key, mine, 'PX', keyLasts)
    return first
  }

  /** The job of `ID BODYHASH`. It may be on its way at this moment; after a second, its request was lost. */
  async #made(first: string | null): Promise<Job | undefined> {
    const id = first?.split(' ')[0]
    if (!id) return undefined
    for (let tries = 0; tries < 20; tries++) {
      const job = await this.get(id)
      if (job) return job
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return undefined
  }

  async #forgetFirst({ owner, bodyHash, idempotencyKey }: NewJob): Promise<void> {
    await this.#redis.del(
      idempotencyKey === undefined ? keys.body(owner, bodyHash) : keys.idempotency(owner, idempotencyKey),
    )
  }

  async get(id: string): Promise<Job | undefined> {
    return reach(async () => {
      if (await this.#redis.exists(keys.removal(id))) return undefined
      const kept = await this.#kept(id)
      if (kept) return this.#job(kept)
      const cancelled = await this.#redis.get(keys.cancelled(id))
      return cancelled ? (JSON.parse(cancelled) as Job) : undefined
    })
  }

  async list({
    owner,
    after,
    limit,
    order,
  }: Parameters<Jobs['list']>[0]): Promise<{ jobs: Job[]; more: boolean }> {
    return reach(async () => {
      const jobs: Job[] = []
      let last = after
      while (jobs.length <= limit) {
        const members = await this.#members(last, limit + 1, order)
        for (const member of members) {
          last = idOf(member)
          const job = await this.get(last)
          if (job && (owner === undefined || job.owner === owner)) jobs.push(job)
          if (jobs.length > limit) break
        }
        if (members.length <= limit) break
      }
      return { jobs: jobs.slice(0, limit), more: jobs.length > limit }
    })
  }

  /** Members of the index after an id. '~' sorts after every character of ids and of the space behind them. */
  #members(after: string | undefined, count: number, order: 'asc' | 'desc'): Promise<string[]> {
    return order === 'asc'
      ? this.#redis.zrangebylex(keys.index, after ? `(${after}~` : '-', '+', 'LIMIT', 0, count)
      : this.#redis.zrevrangebylex(keys.index, after ? `(${after}` : '+', '-', 'LIMIT', 0, count)
  }

  async unfinished(owner?: string): Promise<Job[]> {
    return reach(async () => {
      const jobs: Job[] = []
      for (const queue of await this.#allQueues()) {
        const ids = await queue.getRanges(['active', 'wait', 'prioritized', 'delayed'])
        for (const id of ids) {
          const job = await this.get(id)
          if (job && !isEnded(job) && (owner === undefined || job.owner === owner)) jobs.push(job)
        }
      }
      return jobs.sort((one, other) => (one.id < other.id ? -1 : 1))
    })
  }

  async cancel(id: string): Promise<Job | undefined> {
    return reach(async () => {
      const job = await this.get(id)
      if (!job || isEnded(job)) return job
      if (job.state === 'queued') {
        const endedAt = Date.now()
        const times = { endedAt, expiresAt: endedAt + this.#options.keepMs }
        const record = moved(job, 'cancelled', { error: cancelledError, ...times })
        await this.#redis.set(keys.cancelled(id), JSON.stringify(record), 'PX', this.#options.keepMs)
        if (await this.#queue(job.request.model).remove(id)) {
          await this.#publish(id)
          return record
        }
        await this.#redis.del(keys.cancelled(id)) // a worker has just taken it
      }
      await this.#redis.set(keys.decision(id), 'cancel', 'PX', decisionLasts, 'NX')
      await this.#publish(id)
      return this.get(id)
    })
  }

  async remove(id: string): Promise<boolean> {
    return reach(async () => {
      const job = await this.cancel(id)
      if (!job) return false
      await this.#redis.set(keys.removal(id), job.owner, 'PX', decisionLasts)
      if (isEnded(job)) await this.#removeEnded(id, job.owner)
      else await this.#redis.publish(keys.changes, removedMessage(id, job.owner))
      return true
    })
  }

  async #removeEnded(id: string, owner: string): Promise<void> {
    await (await this.#kept(id))?.remove()
    const [member] = await this.#memberOf(id)
    if (member) await this.#redis.zrem(keys.index, member)
    await this.#redis.del(keys.cancelled(id), keys.decision(id), keys.returns(id))
    await this.#options.files.remove(id)
    await this.#redis.del(keys.removal(id))
    await this.#redis.publish(keys.changes, removedMessage(id, owner))
  }

  async counts(): Promise<Counts> {
    return reach(async () => {
      const sums = { queued: 0, running: 0 }
      for (const queue of await this.#allQueues()) {
        const { waiting = 0, prioritized = 0, delayed = 0, active = 0 } = await queue.getJobCounts()
        sums.queued += waiting + prioritized + delayed
        sums.running += active
      }
      return { ...sums, workers: (await this.#announcements()).length }
    })
  }

  async models(): Promise<ServedModel[]> {
    const all = (await reach(() => this.#announcements())).flat()
    return [...new Map(all.map((model) => [model.id, model])).values()]
  }

  watch(seen: (change: Change) => void): () => void {
    this.#watchers.add(seen)
    return () => this.#watchers.delete(seen)
  }

  async work(worker: Worker): Promise<Working> {
    const { url, logger, files, lockFor = 60_000, maxRunMs = 3_600_000 } = this.#options
    const work = new BullWork(worker, {
      ...{ url, logger, files, lockFor, maxRunMs },
      load: (kept) => this.#job(kept),
      ended: (kept) => this.#afterEnd(kept),
    })
    this.#works.add(work)
    return work
  }

  /** Takes away what was asked to be removed while it ran. */
  async #afterEnd(kept: Kept): Promise<void> {
    const id = kept.id as string
    await this.#redis.del(keys.decision(id))
    if (await this.#redis.exists(keys.removal(id))) await this.#removeEnded(id, kept.data.owner)
    else await this.#publish(id)
  }

  async ready(): Promise<void> {
    await reach(() => this.#redis.ping())
    await this.#options.files.ready()
    if (!(await this.counts()).workers) throw new Error('no worker has loaded its models yet')
  }

  /** BullMQ removes old jobs by itself. Their files and their place in the index go when they are missed twice. */
  async #sweep(): Promise<void> {
    try {
      const missing = new Set<string>()
      let cursor = '0'
      do {
        const [next, members] = await this.#redis.zscan(keys.index, cursor, 'COUNT', 100)
        cursor = next
        for (const [at, member] of members.entries()) {
          if (at % 2) continue // a score
          const id = idOf(member)
          if (await this.get(id)) continue
          if (this.#missing.has(id)) await this.#removeEnded(id, '')
          else missing.add(id)
        }
      } while (cursor !== '0')
      this.#missing = missing
    } catch (error) {
      this.#options.logger.warn({ err: (error as Error).message }, 'old jobs were not swept')
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeping)
    for (const work of this.#works) await work.close(0)
    for (const queue of this.#queues.values()) await queue.close()
    this.#changes.disconnect()
    this.#redis.disconnect()
  }

  #queue(model: string): Queue<Data> {
    const known = this.#queues.get(model)
    if (known) return known
    const kept = { age: Math.ceil(this.#options.keepMs / 1000) }
    const queue = new Queue<Data>(queueName(model), {
      connection: this.#redis,
      prefix,
      skipWaitingForReady: true,
      defaultJobOptions: { attempts: 1, removeOnComplete: kept, removeOnFail: kept },
    })
    queue.on('error', (error) => this.#options.logger.warn({ err: error.message }, 'queue'))
    this.#queues.set(model, queue)
    return queue
  }

  /** The queues of all models that jobs were made for. */
  async #allQueues(): Promise<Queue<Data>[]> {
    return (await this.#redis.smembers(keys.models)).map((model) => this.#queue(model))
  }

  #memberOf(id: string): Promise<string[]> {
    return this.#redis.zrangebylex(keys.index, `[${id} `, `(${id}!`, 'LIMIT', 0, 1)
  }

  async #kept(id: string): Promise<Kept | undefined> {
    const [member] = await this.#memberOf(id)
    return member ? ((await this.#queue(modelOf(member)).getJob(id)) as Kept | undefined) : undefined
  }

  async #job(read: Kept): Promise<Job> {
    const id = read.id as string
    const state = await read.getState()
    // It has ended since it was read.
    const hasEnded = (state === 'completed' || state === 'failed') && read.finishedOn === undefined
    const kept = (hasEnded ? await this.#kept(id) : undefined) ?? read
    const [decision, returns] = await this.#redis.mget(keys.decision(id), keys.returns(id))
    return toJob(kept, state, {
      decision: decision ?? null,
      returns: Number(returns ?? 0),
      position: state === 'waiting' ? await this.#position(kept.data.request.model, id) : undefined,
      keepMs: this.#options.keepMs,
    })
  }

  /** BullMQ adds jobs on the left and takes them on the right. */
  async #position(model: string, id: string): Promise<number | undefined> {
    const wait = `${prefix}:${queueName(model)}:wait`
    const [place, length] = [await this.#redis.lpos(wait, id), await this.#redis.llen(wait)]
    return place === null ? undefined : length - Number(place)
  }

  /** What each living worker has loaded. */
  async #announcements(): Promise<ServedModel[][]> {
    const names = await this.#redis.smembers(keys.workers)
    if (!names.length) return []
    const told = await this.#redis.mget(names.map(keys.worker))
    const gone = names.filter((_, index) => told[index] === null)
    if (gone.length) await this.#redis.srem(keys.workers, gone)
    return told.filter((text) => text !== null).map((text) => JSON.parse(text as string) as ServedModel[])
  }

  async #publish(id: string): Promise<void> {
    await this.#redis.publish(keys.changes, id)
  }

  async #tell(message: string): Promise<void> {
    try {
      const [id = '', owner] = message.split(' ')
      for (const work of this.#works) work.look(id)
      if (!this.#watchers.size) return
      const job = owner === undefined ? await this.get(id) : undefined
      const change: Change | undefined =
        owner !== undefined
          ? { type: 'removed', id, owner: decodeURIComponent(owner) }
          : job && { type: 'job', job }
      if (change) for (const seen of this.#watchers) seen(change)
    } catch (error) {
      this.#options.logger.warn({ err: (error as Error).message }, 'a change was not told')
    }
  }
}

const idOf = (member: string): string => member.slice(0, member.indexOf(' '))
const modelOf = (member: string): string => member.slice(member.indexOf(' ') + 1)
const removedMessage = (id: string, owner: string): string => `${id} ${encodeURIComponent(owner)}`
