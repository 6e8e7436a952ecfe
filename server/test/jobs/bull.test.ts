// The queue of many machines, on a Redis of its own: workers and Redis end at any moment.
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import pino from 'pino'
import { FolderFiles } from '#server/files/folder.js'
import { openBull } from '#server/jobs/bull/bull.js'
import { isEnded, type Job, newId } from '#server/jobs/job.js'
import type { Jobs, NewJob } from '#server/jobs/jobs.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { videoOf } from '../support/video_of.js'
import { newJob } from './contract.js'

const logger = pino({ level: 'silent' })
const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-bull-'))
const files = new FolderFiles(folder)
const redis = await startRedis()
const skip = redis ? false : 'there is no redis-server'
const { url, start, stop } = redis ?? ({} as TestRedis)
const workers = new Set<ChildProcess>()
after(async () => {
  for (const worker of workers) worker.kill('SIGKILL')
  for (const jobs of opened) await jobs.close()
  await redis?.[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

interface Told {
  readonly began?: string
  readonly attempt?: number
  readonly aborted?: string
  readonly made?: string
}

const script = fileURLToPath(new URL('../support/bull_worker.js', import.meta.url))

/** Starts a worker whose jobs take `steps` of `stepMs`, and collects what it tells. */
async function startWorker({ lockFor = 1000, steps = 4, stepMs = 50 } = {}) {
  const child = fork(script, [url, folder, `${lockFor}`, `${steps}`, `${stepMs}`])
  workers.add(child)
  const told: Told[] = []
  child.on('message', (message) => void told.push(message as Told))
  await once(child, 'message')
  const kill = async () => {
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    workers.delete(child)
  }
  return { child, told, kill }
}

const opened = new Set<Jobs>()
async function open(): Promise<Jobs> {
  const jobs = await openBull({ url, files, logger, lockFor: 1000 })
  opened.add(jobs)
  return jobs
}

let seeds = 0
function nextJob(more: Partial<NewJob> = {}): NewJob {
  const job = newJob(`boat ${++seeds}`, more)
  return { ...job, request: { ...job.request, options: { seed: seeds } } }
}
const add = async (jobs: Jobs, more?: Partial<NewJob>) => (await jobs.add(nextJob(more))).job

async function until<T>(look: () => Promise<T | undefined | false>, seconds = 20): Promise<T> {
  for (const end = performance.now() + 1000 * seconds; performance.now() < end; await wait(20)) {
    const found = await look()
    if (found) return found
  }
  throw new assert.AssertionError({ message: 'it did not come' })
}
const ended = (jobs: Jobs, id: string, seconds?: number): Promise<Job> =>
  until(async () => {
    const job = await jobs.get(id).catch(() => undefined)
    return job && isEnded(job) && job
  }, seconds)
const video = (id: string) => readFileSync(path.join(folder, id, 'video.mp4'))

test('case 25: a worker is killed: another one makes its job, once, as attempt 2', { skip }, async () => {
  const jobs = await open()
  const first = await startWorker({ steps: 100 })
  const job = await add(jobs)
  await until(async () => first.told.some(({ began }) => began === job.id))
  await first.kill()
  const second = await startWorker()
  const { state, attempt } = await ended(jobs, job.id)
  assert.deepEqual({ state, attempt }, { state: 'completed', attempt: 2 })
  assert.deepEqual(second.told.filter(({ made }) => made === job.id).length, 1)
  assert.deepEqual(video(job.id), videoOf(job.request.options.seed))
  await second.kill()
  await jobs.close()
})

test('a job that ends its worker twice is failed, and the next one is made', { skip }, async () => {
  const jobs = await open()
  const job = await add(jobs)
  for (let attempt = 1; attempt <= 2; attempt++) {
    const worker = await startWorker({ steps: 1000 })
    await until(async () => worker.told.some(({ began }) => began === job.id))
    await worker.kill()
  }
  const next = await add(jobs)
  const worker = await startWorker()
  const { state, error } = await ended(jobs, job.id)
  assert.equal(state, 'failed')
  assert.equal(error?.code, 'worker_lost')
  assert.equal((await ended(jobs, next.id)).state, 'completed')
  await worker.kill()
  await jobs.close()
})

test('case 26: a worker that stood still longer than its lock aborts when it wakes', { skip }, async () => {
  const jobs = await open()
  const first = await startWorker({ steps: 60 })
  const job = await add(jobs)
  await until(async () => first.told.some(({ began }) => began === job.id))
  first.child.kill('SIGSTOP')
  const second = await startWorker({ steps: 60 })
  await until(async () => second.told.some(({ began }) => began === job.id))
  first.child.kill('SIGCONT')
  await until(async () => first.told.some(({ aborted }) => aborted === job.id))
  const { state, attempt } = await ended(jobs, job.id)
  assert.deepEqual({ state, attempt }, { state: 'completed', attempt: 2 })
  const made = [first, second].map(({ told }) => told.filter((one) => one.made === job.id).length)
  assert.deepEqual(made, [0, 1])
  for (const worker of [first, second]) await worker.kill()
  await jobs.close()
})

test('case 27: Redis ends and comes back: nothing is lost, and a request fails within a second', {
  skip,
}, async () => {
  const jobs = await open()
  const worker = await startWorker({ lockFor: 20_000, steps: 20 })
  const asked = [await add(jobs), await add(jobs), await add(jobs)]
  await until(async () => worker.told.some(({ began }) => began === asked[0]?.id))
  await stop()
  const begun = performance.now()
  await assert.rejects(add(jobs), { name: 'QueueAway' })
  assert.ok(performance.now() - begun < 1500)
  await wait(500)
  await start()
  for (const { id } of asked) {
    const { state, attempt } = await ended(jobs, id)
    assert.deepEqual({ state, attempt }, { state: 'completed', attempt: 1 })
    assert.equal(worker.told.filter(({ made }) => made === id).length, 1)
  }
  await worker.kill()
  await jobs.close()
})

test('case 28: two servers, two workers, 50 jobs, workers killed at random: every video is its seed’s', {
  skip,
}, async () => {
  const servers = [await open(), await open()]
  const start = () => startWorker({ steps: 2, stepMs: 40 })
  const running = [await start(), await start()]
  let killing = true
  const killer = (async () => {
    while (killing) {
      await wait(400 + 800 * Math.random())
      const at = Math.floor(2 * Math.random())
      await running[at]?.kill()
      running[at] = await start()
    }
  })()
  const asked: Job[] = []
  for (let count = 0; count < 50; count++) asked.push(await add(servers[count % 2] as Jobs))
  const other = servers[1] as Jobs
  const results = await Promise.all(asked.map(({ id }) => ended(other, id, 90)))
  killing = false
  await killer
  for (const job of results) {
    // A job that two killed workers held is failed by rule; all others are completed.
    if (job.state === 'failed') assert.equal(job.error?.code, 'worker_lost')
    else assert.deepEqual(video(job.id), videoOf(job.request.options.seed))
  }
  assert.ok(results.filter(({ state }) => state === 'completed').length >= 45)
  for (const worker of running) await worker.kill()
  for (const jobs of servers) await jobs.close()
})

test('one job for the same key at two servers, and 422 for another body', { skip }, async () => {
  const [one, other] = [await open(), await open()]
  const request = nextJob({ idempotencyKey: 'a key: of mine' })
  const answers = await Promise.all([one.add(request), other.add({ ...request, id: newId() })])
  assert.deepEqual(answers.map(({ added }) => added).sort(), [false, true])
  assert.equal(answers[0]?.job.id, answers[1]?.job.id)
  await assert.rejects(other.add({ ...request, id: newId(), bodyHash: 'another' }), { name: 'KeyReused' })
  const seen: string[] = []
  other.watch((change) => void seen.push(change.type === 'job' ? change.job.state : change.type))
  assert.equal((await one.cancel(request.id))?.state, 'cancelled')
  assert.equal(await one.remove(request.id), true)
  assert.equal(await other.get(request.id), undefined)
  await until(async () => seen.includes('removed'))
  assert.ok(seen.includes('cancelled'), 'the other server hears of it')
  await one.close()
  await other.close()
})

test('a Redis that may throw jobs away is refused with the command that mends it', { skip }, async () => {
  const client = new Redis(url)
  await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
  await assert.rejects(open(), /config set maxmemory-policy noeviction/)
  await client.config('SET', 'maxmemory-policy', 'noeviction')
  client.disconnect()
})
