// The server, and the process with the pipelines, end at any moment: with jobs that act, and with the model.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { newId } from '#server/jobs/job.js'
import { videoOf } from '../support/acting_runner.js'
import { create, isAlive, json, look, ServerProcess, until, untilState } from '../support/acting_server.js'

const opened: ServerProcess[] = []
after(async () => {
  for (const server of opened) await server.remove()
})

async function open(options: object = {}, environment: Record<string, string> = {}): Promise<ServerProcess> {
  const server = new ServerProcess(options, environment)
  opened.push(server)
  return server.start()
}

const contentOf = async ({ url }: ServerProcess, id: string) =>
  Buffer.from(await (await fetch(`${url}/v1/videos/${id}/content`)).arrayBuffer())

test('case 1: a server that is killed just after its answer makes the job after its start', async () => {
  const server = await (await open()).ready()
  const ids = await Promise.all(
    [1, 2, 3].map(async (seed) => (await create(server.url, 'steps 30 ms 50', { seed })).id),
  )
  await server.end()
  await (await server.start()).ready()
  for (const id of ids) {
    const { torchreel } = await look(server.url, id)
    assert.ok(['queued', 'running'].includes(torchreel.state), torchreel.state)
  }
  await Promise.all(
    ids.slice(1).map((id) => fetch(`${server.url}/v1/videos/${id}/cancel`, { method: 'POST' })),
  )
  const [first = ''] = ids
  const video = await untilState(server.url, first, 'completed')
  assert.ok(video.torchreel.attempt <= 2)
  assert.deepEqual(await contentOf(server, first), videoOf(1))
})

test('case 2: a server that is killed while an upload streams keeps nothing of it', async () => {
  const server = await (await open()).ready()
  const boundary = 'xyz'
  const request = http.request(`${server.url}/v1/videos`, {
    method: 'POST',
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
  })
  request.on('error', () => {})
  request.write(`--${boundary}\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na boat\r\n`)
  request.write(
    `--${boundary}\r\ncontent-disposition: form-data; name="input_reference"; filename="a.mp4"\r\n\r\n`,
  )
  request.write(Buffer.concat([Buffer.from('\0\0\0\x18ftypmp42'), Buffer.alloc(500_000)]))
  const uploads = path.join(server.folder, 'uploads')
  await until(async () => readdirSync(uploads).length === 1)
  await server.end()
  await (await server.start()).ready()
  assert.deepEqual(readdirSync(uploads), [])
  assert.deepEqual(readdirSync(path.join(server.folder, 'jobs')), [])
})

test('case 3: a video whose end was not recorded is adopted, and not made again', async () => {
  const server = await (await open()).ready()
  const { id } = await create(server.url, 'steps 2 killserver 1', { seed: 5 })
  await server.gone()
  assert.equal(server.recordOf(id).state, 'running')
  const made = readFileSync(path.join(server.folder, 'jobs', id, 'video.mp4'))
  await server.start()
  const video = await look(server.url, id)
  assert.deepEqual([video.status, video.torchreel.attempt], ['completed', 1])
  assert.deepEqual(await contentOf(server, id), made)
})

test('case 4: a job whose process is killed in mid-denoise is made by the next one, with the same bytes', async () => {
  const server = await (await open({ pipelines: true })).ready()
  const settings = { seed: 11, num_inference_steps: 12, num_frames: 8 }
  const { id } = await create(server.url, 'a big red circle', settings)
  await until(async () => {
    const { torchreel } = await look(server.url, id)
    return torchreel.stage === 'denoise' && (torchreel.step ?? 0) >= 2
  })
  const [worker = 0] = server.workers()
  process.kill(worker, 'SIGKILL')
  const { torchreel } = await untilState(server.url, id, 'completed')
  assert.equal(torchreel.attempt, 2)
  assert.notEqual(server.workers()[0], worker)
  const undisturbed = await create(server.url, 'a big red circle', settings)
  await untilState(server.url, undisturbed.id, 'completed')
  const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
  assert.equal(sha256(await contentOf(server, id)), sha256(await contentOf(server, undisturbed.id)))
})

test('the process that answers requests never opens libtorch', async () => {
  const server = await (await open({ pipelines: true })).ready()
  const { id } = await create(server.url, 'a big red circle', { num_inference_steps: 1, num_frames: 2 })
  await untilState(server.url, id, 'completed')
  const mapped = (pid: number) => readFileSync(`/proc/${pid}/maps`, 'utf8')
  const [worker = 0] = server.workers()
  assert.match(mapped(worker), /libtorch_cpu|torchreel_core/)
  assert.doesNotMatch(mapped(server.pid), /torch(?!reel-server-)[^\n]*\.(so|node)/)
})

test('case 5: a job that takes its process down twice has failed, and the next one runs', async () => {
  const server = await (await open()).ready()
  const bad = await create(server.url, 'diealways 1')
  const good = await create(server.url, 'steps 1')
  const video = await untilState(server.url, bad.id, 'failed')
  assert.deepEqual([video.error?.code, video.torchreel.attempt], ['worker_lost', 2])
  assert.equal((await untilState(server.url, good.id, 'completed')).torchreel.attempt, 1)
})

test('case 6: a process that dies at its start makes the server unready, with its last words, and is not started in a loop', async () => {
  const server = await open({}, { TORCHREEL_TEST_START: 'die' })
  const missing = await until(async () => {
    const answer = await fetch(`${server.url}/readyz`)
    const { missing = [] } = await json<{ missing?: string[] }>(answer)
    return answer.status === 503 && missing.join().includes('no libtorch for you') && missing
  })
  assert.match(missing.join(), /worker on auto ended with code 1/)
  await wait(3_500)
  // 0, 1 and 3 seconds after the first.
  const starts = server.said.match(/worker started/g)?.length ?? 0
  assert.ok(starts >= 2 && starts <= 4, `${starts} starts`)
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200)
  const refused = await fetch(`${server.url}/v1/videos`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"prompt":"a"}',
  })
  assert.equal(refused.status, 503)
})

test('case 7: when the server dies, its process ends, and nothing holds the port or the folder', async () => {
  const server = await (await open()).ready()
  await create(server.url, 'steps 500 ms 50 deaf 1')
  const [worker = 0] = server.workers()
  await until(async () => isAlive(worker))
  await server.end()
  await until(async () => !isAlive(worker), 2_000)
  await assert.rejects(fetch(`${server.url}/healthz`))
  await server.start()
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200)
})

test('case 8: a second server on the same folder is refused with the process of the first; the lock of a dead one is taken', async () => {
  const server = await open()
  const second = new ServerProcess({ data: server.folder })
  await assert.rejects(
    second.start(),
    new RegExp(`belongs to another server, which runs as process ${server.pid}`),
  )
  await second.remove()
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200)
  await server.end()
  assert.ok(existsSync(path.join(server.folder, 'server.lock')))
  await server.start()
  assert.equal(await server.end('SIGTERM'), 0)
  assert.ok(!existsSync(path.join(server.folder, 'server.lock')))
})

test('case 9: records that a loss of power cut short are skipped and named; the rest is served', async () => {
  const server = await (await open()).ready()
  const good = await create(server.url, 'steps 1', { seed: 3 })
  await untilState(server.url, good.id, 'completed')
  await server.end()
  const jobs = path.join(server.folder, 'jobs')
  const broken = newId()
  mkdirSync(path.join(jobs, broken))
  writeFileSync(path.join(jobs, broken, 'job.json'), '{"id":"vid')
  const unaccepted = newId()
  mkdirSync(path.join(jobs, unaccepted))
  writeFileSync(path.join(jobs, unaccepted, 'input'), 'half')
  mkdirSync(path.join(jobs, `.trash-${newId()}`))
  writeFileSync(path.join(jobs, good.id, '.job.json-0123456789ab'), '{')
  writeFileSync(path.join(server.folder, 'uploads', 'upload-1'), 'half')
  await (await server.start()).ready()
  assert.match(server.said, new RegExp(`${broken}.*a record is broken`))
  const { data } = await json<{ data: { id: string }[] }>(fetch(`${server.url}/v1/videos`))
  assert.deepEqual(
    data.map(({ id }) => id),
    [good.id],
  )
  assert.deepEqual(readdirSync(jobs).sort(), [good.id, broken].sort())
  assert.deepEqual(server.filesOf(good.id), [
    'job.json',
    'result.json',
    'spritesheet.png',
    'thumbnail.png',
    'video.mp4',
  ])
  assert.deepEqual(readdirSync(path.join(server.folder, 'uploads')), [])
  assert.deepEqual(await contentOf(server, good.id), videoOf(3))
})

test('case 12: after a cancel the process of a job that does not listen is killed when the grace is over', async () => {
  const server = await (await open({ cancelGrace: 1_500 })).ready()
  const deaf = await create(server.url, 'steps 1 ms 60000 deaf 1')
  await until(async () => (await look(server.url, deaf.id)).torchreel.stage === 'denoise')
  const [worker] = server.workers()
  const cancelled = await json(fetch(`${server.url}/v1/videos/${deaf.id}/cancel`, { method: 'POST' }))
  assert.deepEqual([cancelled.status, cancelled.torchreel.state], ['in_progress', 'cancelling'])
  const next = await create(server.url, 'steps 1')
  const video = await untilState(server.url, deaf.id, 'cancelled')
  assert.deepEqual([video.status, video.error?.code], ['failed', 'cancelled'])
  await until(async () => server.filesOf(deaf.id).join() === 'job.json')
  await untilState(server.url, next.id, 'completed')
  assert.notEqual(server.workers()[0], worker)
})

test('[server-sigterm] case 24: at SIGTERM the running job is put back; all four are there after the start, and no attempt is counted', async () => {
  const server = await (await open()).ready()
  const ids: string[] = []
  for (const seed of [1, 2, 3, 4]) ids.push((await create(server.url, 'steps 20 ms 20', { seed })).id)
  await untilState(server.url, ids[0] as string, 'running')
  assert.equal(await server.end('SIGTERM'), 0)
  for (const id of ids)
    assert.deepEqual([server.recordOf(id).state, server.recordOf(id).attempt], ['queued', 0])
  await (await server.start()).ready()
  for (const [index, id] of ids.entries()) {
    assert.equal((await untilState(server.url, id, 'completed')).torchreel.attempt, 1)
    assert.deepEqual(await contentOf(server, id), videoOf(index + 1))
  }
})

test('[server-sigterm] with a grace the running job ends before the server does', async () => {
  const server = await (await open({ grace: 20_000 })).ready()
  const { id } = await create(server.url, 'steps 20 ms 20')
  await untilState(server.url, id, 'running')
  assert.equal(await server.end('SIGTERM'), 0)
  assert.equal(server.recordOf(id).state, 'completed')
})

test('kill -9 at any time: each accepted job is made, and no half file is shown', async () => {
  const server = await (await open()).ready()
  const accepted = new Map<string, number>()
  let seed = 0
  for (let round = 0; round < 6; round++) {
    const asking = (async () => {
      for (;;) {
        const mine = ++seed
        const video = await create(server.url, 'steps 3 ms 15', { seed: mine })
        if (video.id) accepted.set(video.id, mine)
      }
    })().catch(() => {})
    await wait(80 + round * 45)
    if (round % 2 === 0) process.kill(server.workers()[0] ?? server.pid, 'SIGKILL')
    else await server.end()
    await wait(30)
    await server.end()
    await asking
    await (await server.start()).ready()
  }
  assert.ok(accepted.size > 5)
  for (const [id, mine] of accepted) {
    const { torchreel, error } = await untilState(server.url, id, 'completed', 'failed')
    // A job that was running at two kills has failed, and says so.
    if (torchreel.state === 'failed') assert.deepEqual([error?.code, torchreel.attempt], ['worker_lost', 2])
    else assert.deepEqual(await contentOf(server, id), videoOf(mine))
  }
  rmSync(path.join(server.folder, 'work'), { recursive: true, force: true })
})
