// Many requests, many jobs, and a machine whose clock or disk misbehaves.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { EmbeddedJobs } from '#server/jobs/embedded.js'
import { newId } from '#server/jobs/job.js'
import { newJob } from '../jobs/contract.js'
import { videoOf } from '../support/acting_runner.js'
import {
  create,
  json,
  look,
  newFolder,
  post,
  refusal,
  silent,
  start,
  until,
  untilState,
} from '../support/acting_server.js'

test('[request-queue-full] case 17: of 300 requests at once 256 wait, the others may come later, and none is lost', async (t) => {
  const running = await start({ workerCount: 0, workers: [], limits: { waiting: 256 } })
  t.after(() => running.close())
  await running.server.jobs.work({
    ...{ device: 'cpu', models: [], isUp: true, trouble: undefined },
    available: async () => [(await import('../support/acting_runner.js')).served],
    run: () => Promise.reject(new Error('takes no jobs')),
  })
  const answers = await Promise.all(
    Array.from({ length: 300 }, (_, i) => post(`${running.url}/v1/videos`, { prompt: `number ${i}` })),
  )
  const accepted = answers.filter(({ status }) => status === 200)
  const refused = answers.filter(({ status }) => status === 429)
  assert.deepEqual([accepted.length, refused.length], [256, 44])
  for (const answer of refused) {
    assert.ok(Number(answer.headers.get('retry-after-ms')) > 0)
    assert.deepEqual(await refusal(answer), [429, 'queue_full', null])
  }
  const ids = await Promise.all(accepted.map(async (answer) => (await json(answer)).id))
  assert.equal(new Set(ids).size, 256)
  assert.deepEqual(readdirSync(path.join(running.folder, 'jobs')).sort(), ids.sort())
})

test('case 18: a thousand jobs, made and deleted, leave nothing behind', async (t) => {
  const running = await start()
  t.after(() => running.close())
  const make = async (count: number) => {
    for (let done = 0; done < count; done += 20) {
      const some = await Promise.all(
        Array.from({ length: 20 }, (_, i) => create(running.url, `bare 1 number ${done + i}`)),
      )
      for (const { id } of some) await untilState(running.url, id, 'completed')
      await Promise.all(
        some.map(({ id }) =>
          fetch(`${running.url}/v1/videos/${id}`, { method: 'DELETE' }).then((answer) => answer.text()),
        ),
      )
    }
  }
  const descriptors = () => readdirSync('/proc/self/fd').length
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const heap = () => {
    globalThis.gc?.()
    return process.memoryUsage().heapUsed
  }
  await make(200)
  await until(async () => descriptors() < 100)
  const before = { heap: heap(), descriptors: descriptors(), timers: timers() }
  await make(800)
  // A connection has two in this process, and the client opens some more now and then.
  await until(async () => descriptors() <= before.descriptors + 60)
  assert.ok(timers() <= before.timers + 5, `${timers()} timers, ${before.timers} before`)
  if (globalThis.gc) assert.ok(heap() < before.heap + 15e6, `${heap()} bytes, ${before.heap} before`)
  assert.deepEqual(readdirSync(path.join(running.folder, 'jobs')), [])
  assert.deepEqual(await running.server.jobs.counts(), { queued: 0, running: 0, workers: 1, bytes: 0 })
})

test('case 23: a full disk refuses, or fails with the reason; when there is room again all goes on', async (t) => {
  const disk = newFolder()
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk])
  if (mount.status !== 0) return t.skip(`cannot mount a tmpfs: ${mount.stderr ?? mount.error}`)
  const running = await start({ data: disk })
  t.after(async () => {
    await running.close()
    spawnSync('umount', ['-l', disk])
    rmSync(disk, { recursive: true, force: true })
  })
  const filler = path.join(disk, 'filler')
  const fill = (left: number) => {
    rmSync(filler, { force: true })
    const { stdout } = spawnSync('df', ['-B1', '--output=avail', disk], { encoding: 'utf8' })
    mkdirSync(disk, { recursive: true })
    writeFileSync(filler, Buffer.alloc(Math.max(0, Number(stdout.split('\n')[1]) - left)))
  }
  const good = await create(running.url, 'bare 1', { seed: 1 })
  await untilState(running.url, good.id, 'completed')
  // When accepting.
  fill(0)
  const refused = await post(`${running.url}/v1/videos`, { prompt: 'a' })
  assert.deepEqual(await refusal(refused), [503, 'no_space', null])
  assert.equal((await fetch(`${running.url}/readyz`)).status, 503)
  assert.equal((await fetch(`${running.url}/v1/videos/${good.id}/content`)).status, 200)
  // While files are written: there is room for the record and the small files only.
  rmSync(filler)
  const late = await create(running.url, 'bare 1 steps 3 ms 100', { seed: 2 })
  await untilState(running.url, late.id, 'running')
  fill(8192)
  const failed = await untilState(running.url, late.id, 'failed', 'completed')
  assert.equal(failed.torchreel.state, 'failed')
  assert.match(failed.error?.message ?? '', /ENOSPC/)
  assert.ok(!readdirSync(path.join(disk, 'jobs', late.id)).includes('video.mp4'))
  // There is room again.
  rmSync(filler)
  await until(async () => (await fetch(`${running.url}/readyz`)).ok)
  const next = await create(running.url, 'bare 1 next', { seed: 3 })
  await untilState(running.url, next.id, 'completed')
  assert.deepEqual(
    Buffer.from(await (await fetch(`${running.url}/v1/videos/${next.id}/content`)).arrayBuffer()),
    videoOf(3),
  )
})

test('case 30: when the clock jumps back and forth, order, waiting times and repeated requests stay right', async (t) => {
  const folder = newFolder()
  t.after(() => rmSync(folder, { recursive: true }))
  const now = Date.now()
  const hour = 3_600_000
  let jump = 0
  t.mock.method(Date, 'now', () => now + jump)
  const jobs = await EmbeddedJobs.open({ folder, logger: silent, kept: { ms: 24 * hour } })
  const ids: string[] = []
  for (const at of [0, -hour, hour, 0]) {
    jump = at
    ids.push((await jobs.add(newJob(`at ${at}`, { idempotencyKey: `${ids.length}` }))).job.id)
  }
  assert.deepEqual(ids, [...ids].sort())
  assert.deepEqual(
    (await jobs.list({ limit: 9, order: 'asc' })).jobs.map(({ id }) => id),
    ids,
  )
  jump = -hour
  assert.equal((await jobs.add(newJob('at 0', { idempotencyKey: '0', id: newId() }))).added, false)
  assert.equal((await jobs.add(newJob('at 0', { isRetry: true, id: newId() }))).job.id, ids[3])
  for (const id of ids) await jobs.cancel(id)
  for (const id of ids) {
    const job = await jobs.get(id)
    assert.equal(job?.state, 'cancelled')
    assert.equal(job?.expiresAt, (job?.endedAt ?? 0) + 24 * hour)
  }
  jump = 0
  await jobs.close()
  // Ids go on after those that are there, even if the clock of the machine was set back between.
  jump = -24 * hour
  const again = await EmbeddedJobs.open({ folder, logger: silent })
  const { job } = await again.add(newJob('later'))
  assert.ok(job.id > (ids.at(-1) as string))
  await again.close()
})

test('of the jobs that have ended only so many, so old and so large are kept', async (t) => {
  const running = await start({ keepJobs: 3 })
  t.after(() => running.close())
  const ids: string[] = []
  for (let i = 0; i < 6; i++) {
    const { id } = await create(running.url, `number ${i}`)
    ids.push(id)
    await untilState(running.url, id, 'completed')
  }
  await until(async () => (await fetch(`${running.url}/v1/videos/${ids[2]}`)).status === 404)
  const folders = () => readdirSync(path.join(running.folder, 'jobs')).sort()
  await until(async () => folders().join() === ids.slice(3).join())
  assert.equal((await look(running.url, ids[5] as string)).status, 'completed')
})
