// What every queue does, written over the interface alone.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { Files } from '#server/files/files.js'
import { isEnded, type Job, newId } from '#server/jobs/job.js'
import {
  JobFailed,
  type Jobs,
  KeyReused,
  type NewJob,
  QueueFull,
  type Worker,
  type Working,
} from '#server/jobs/jobs.js'
import { actor, facts, served } from '../support/acting_runner.js'
import { until } from '../support/acting_server.js'

export interface OpenQueue {
  readonly jobs: Jobs
  readonly files: Files
  close(): Promise<void>
}

export interface ContractOptions {
  /** Opens an empty queue that lets so many jobs wait. */
  open(maxWaiting: number): Promise<OpenQueue>
  /** Why the tests cannot run here. */
  readonly skip?: string | false
}

const maxWaiting = 12

export function newJob(prompt: string, more: Partial<NewJob> = {}): NewJob {
  const { defaults, size } = facts
  const fitted = { ...defaults, ...(size as { width: number; height: number }), strength: undefined }
  return {
    id: newId(),
    owner: 'ann',
    bodyHash: prompt,
    request: { model: 'shapes', prompt, options: { seed: 7 }, fitted, hasInput: false },
    ...more,
  }
}

/** Tests a queue. */
export function testQueue(name: string, { open, skip = false }: ContractOptions): void {
  let queue: OpenQueue
  const working: Working[] = []
  before(async () => {
    if (!skip) queue = await open(maxWaiting)
  })
  after(async () => {
    for (const one of working) await one.close(0)
    await queue?.close()
  })
  const one = (title: string, body: () => Promise<void>) => test(`${name}: ${title}`, { skip }, body)
  const add = async (prompt: string, more: Partial<NewJob> = {}) =>
    (await queue.jobs.add(newJob(prompt, more))).job
  const ended = (id: string) =>
    until(async () => [await queue.jobs.get(id)].find((job) => job && isEnded(job)))
  const inState = (id: string, state: Job['state']) =>
    until(async () => (await queue.jobs.get(id))?.state === state)
  const work = async (run?: Worker['run']) => {
    const act = run ?? actor(queue.files)
    const worker: Worker = {
      ...{ device: 'cpu', models: ['shapes'], isUp: true, trouble: undefined },
      available: async () => [served],
      run: (job, on) => act(job, on),
    }
    const started = await queue.jobs.work(worker)
    working.push(started)
    return started
  }

  one('a job waits, in its place, until there is a worker', async () => {
    const [first, second] = [await add('first'), await add('second')]
    assert.deepEqual([first.state, first.attempt, first.previews], ['queued', 0, 0])
    assert.equal((await queue.jobs.counts()).queued, 2)
    assert.deepEqual(
      (await queue.jobs.list({ limit: 9, order: 'asc' })).jobs.map(({ id }) => id),
      [first.id, second.id],
    )
    assert.deepEqual((await queue.jobs.unfinished('ann')).map(({ id }) => id).sort(), [first.id, second.id])
    assert.deepEqual(await queue.jobs.unfinished('bob'), [])
    for (const { id } of [first, second]) assert.ok(await queue.jobs.remove(id))
    assert.equal(await queue.jobs.get(first.id), undefined)
    assert.equal(await queue.jobs.remove(first.id), false)
  })

  one('case 10: a waiting job that is cancelled has ended, for good', async () => {
    const { id } = await add('waiting')
    const cancelled = await queue.jobs.cancel(id)
    assert.deepEqual([cancelled?.state, cancelled?.error?.code], ['cancelled', 'cancelled'])
    assert.equal((await queue.jobs.cancel(id))?.state, 'cancelled')
    assert.equal((await queue.jobs.counts()).queued, 0)
    assert.equal(await queue.jobs.cancel(newId()), undefined)
  })

  one(
    'case 14: the same key gives the same job, also at once; with another request it is refused',
    async () => {
      const asked = () => queue.jobs.add(newJob('keyed', { idempotencyKey: 'k1' }))
      const answers = await Promise.all([asked(), asked(), asked()])
      assert.equal(new Set(answers.map(({ job }) => job.id)).size, 1)
      assert.equal(answers.filter(({ added }) => added).length, 1)
      await assert.rejects(queue.jobs.add(newJob('another', { idempotencyKey: 'k1' })), KeyReused)
      const others = await queue.jobs.add(newJob('keyed', { idempotencyKey: 'k1', owner: 'bob' }))
      assert.ok(others.added)
      for (const { job } of [answers[0], others]) await queue.jobs.remove(job.id)
    },
  )

  one('case 15: what a client repeats by itself is one job; two first tries are two', async () => {
    const first = await add('lost')
    const again = await queue.jobs.add(newJob('lost', { isRetry: true }))
    assert.deepEqual([again.job.id, again.added], [first.id, false])
    const second = await queue.jobs.add(newJob('lost'))
    assert.ok(second.added)
    for (const { id } of [first, second.job]) await queue.jobs.remove(id)
  })

  one('more jobs than may wait are refused, and take no place', async () => {
    const jobs = await Promise.allSettled(Array.from({ length: maxWaiting + 3 }, (_, i) => add(`full ${i}`)))
    const added = jobs.flatMap((job) => (job.status === 'fulfilled' ? [job.value] : []))
    assert.equal(added.length, maxWaiting)
    for (const job of jobs) if (job.status === 'rejected') assert.ok(job.reason instanceof QueueFull)
    for (const { id } of added) await queue.jobs.remove(id)
    assert.equal((await queue.jobs.counts()).queued, 0)
  })

  one('a page of a list goes on where the last one ended, also when that job is gone', async () => {
    const made: Job[] = []
    for (let i = 0; i < 5; i++) made.push(await add(`page ${i}`, { owner: i === 2 ? 'bob' : 'cat' }))
    const ids = made.filter(({ owner }) => owner === 'cat').map(({ id }) => id)
    const page = (after: string | undefined, order: 'asc' | 'desc') =>
      queue.jobs.list({ owner: 'cat', after, limit: 2, order })
    const first = await page(undefined, 'desc')
    assert.deepEqual([first.jobs.map(({ id }) => id), first.more], [[ids[3], ids[2]], true])
    await queue.jobs.remove(ids[2] as string)
    const second = await page(ids[2], 'desc')
    assert.deepEqual([second.jobs.map(({ id }) => id), second.more], [[ids[1], ids[0]], false])
    const ascending = await page(undefined, 'asc')
    assert.deepEqual(
      ascending.jobs.map(({ id }) => id),
      [ids[0], ids[1]],
    )
    for (const { id } of made) await queue.jobs.remove(id)
  })

  one('jobs run one after the other, tell their progress, and complete with their files', async () => {
    const told: Job[] = []
    const stop = queue.jobs.watch((change) => change.type === 'job' && told.push(change.job))
    await work()
    const [first, second] = [await add('steps 3 ms 150'), await add('steps 1')]
    const done = await ended(first.id)
    assert.deepEqual([done.state, done.attempt, done.error], ['completed', 1, undefined])
    assert.equal(done.made?.frames, 16)
    assert.ok(done.endedAt !== undefined && done.startedAt !== undefined && done.endedAt >= done.startedAt)
    assert.equal((await ended(second.id)).state, 'completed')
    await wait(100)
    stop()
    const ofFirst = told.filter(({ id }) => id === first.id).map(({ state }) => state)
    assert.deepEqual(
      [...new Set(ofFirst)].filter((state) => state !== 'queued'),
      ['running', 'completed'],
    )
    assert.ok(told.some(({ id, progress }) => id === first.id && (progress?.step ?? 0) >= 1))
    const begun = told.findIndex(({ id, state }) => id === second.id && state === 'running')
    assert.ok(begun > told.findIndex(({ id, state }) => id === first.id && state === 'completed'))
    assert.ok(await queue.files.facts(first.id, 'video.mp4'))
    assert.deepEqual(
      (await queue.jobs.models()).map(({ id }) => id),
      ['shapes'],
    )
    assert.ok((await queue.jobs.counts()).workers >= 1)
    await queue.jobs.ready()
  })

  one('case 10: a running job that is cancelled ends within a step, without files', async () => {
    const { id } = await add('steps 500 ms 20')
    await inState(id, 'running')
    const asked = await queue.jobs.cancel(id)
    assert.ok(asked?.state === 'cancelling' || asked?.state === 'cancelled')
    const job = await ended(id)
    assert.deepEqual([job.state, job.error?.code], ['cancelled', 'cancelled'])
    await until(async () => (await queue.files.facts(id, 'preview.png')) === undefined)
    assert.equal(await queue.files.facts(id, 'video.mp4'), undefined)
    const after = await add('steps 1')
    assert.equal((await ended(after.id)).state, 'completed')
    assert.equal((await queue.jobs.cancel(after.id))?.state, 'completed')
  })

  one('case 11: a cancel and the result at the same moment: one of both, and the files agree', async () => {
    for (let i = 0; i < 12; i++) {
      const { id } = await add('steps 1 ms 5')
      await inState(id, 'running').catch(() => {})
      await wait(i)
      await queue.jobs.cancel(id)
      const { state } = await ended(id)
      const wanted = state === 'completed'
      await until(async () => ((await queue.files.facts(id, 'video.mp4')) !== undefined) === wanted)
      await wait(20)
      assert.equal((await queue.jobs.get(id))?.state, state)
    }
  })

  one('a job that fails says why, and the next one runs', async () => {
    const { id } = await add('steps 3 fail 2')
    const job = await ended(id)
    assert.deepEqual(
      [job.state, job.attempt, job.error?.code, job.error?.message],
      ['failed', 1, 'ERR_NUMERIC', 'it became NaN'],
    )
    assert.equal((await ended((await add('steps 1')).id)).state, 'completed')
  })

  one('a running job that is removed is cancelled first', async () => {
    const { id } = await add('steps 500 ms 20')
    await inState(id, 'running')
    const removed: string[] = []
    const stop = queue.jobs.watch((change) => change.type === 'removed' && removed.push(change.id))
    assert.ok(await queue.jobs.remove(id))
    assert.equal(await queue.jobs.get(id), undefined)
    await until(async () => removed.includes(id))
    stop()
    assert.equal((await ended((await add('steps 1')).id)).state, 'completed')
  })

  one('case 24: a worker that closes puts its job back, and no attempt is counted', async () => {
    for (const one of working.splice(0)) await one.close(5_000)
    const closing = await work()
    const { id } = await add('steps 60 ms 20')
    await inState(id, 'running')
    await closing.close(0)
    working.splice(0)
    await inState(id, 'queued')
    await work()
    const job = await ended(id)
    assert.deepEqual([job.state, job.attempt], ['completed', 1])
  })

  one('an error that is none of the known ones fails the job as internal', async () => {
    for (const one of working.splice(0)) await one.close(5_000)
    await work(async ({ request }) => {
      if (request.prompt === 'named') throw new JobFailed('ERR_INVALID_ARGUMENT', 'no', 'width')
      throw new TypeError('a mistake in the worker')
    })
    assert.deepEqual((await ended((await add('unnamed')).id)).error, {
      code: 'ERR_INTERNAL',
      message: 'a mistake in the worker',
    })
    const { error } = await ended((await add('named')).id)
    assert.deepEqual(error, { code: 'ERR_INVALID_ARGUMENT', message: 'no', parameter: 'width' })
  })
}
