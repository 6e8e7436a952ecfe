// A server, workers on other machines as processes of their own, Redis between them, and the files in a bucket.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createServer } from '#server/server.js'
import { openSharedQueue } from '#server/shared_queue.js'
import { create, json, newFolder, post, silent, until, untilState } from './support/acting_server.js'
import { startRedis } from './support/redis.js'
import { credentials, startBucket } from './support/s3.js'

const command = fileURLToPath(import.meta.resolve('#server/cli/main.js'))
const redis = await startRedis()
const skip = redis ? false : 'there is no redis-server'
const bucket = await startBucket()
const folder = newFolder()
process.env.AWS_ACCESS_KEY_ID = credentials.accessKeyId
process.env.AWS_SECRET_ACCESS_KEY = credentials.secretAccessKey
const workers: ChildProcess[] = []
const closes: (() => Promise<void>)[] = []
after(async () => {
  for (const close of closes) await close()
  for (const worker of workers) worker.kill('SIGKILL')
  await redis?.[Symbol.asyncDispose]()
  await bucket[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
})

const shared = (linkSeconds?: number) =>
  openSharedQueue({
    ...{ redis: redis?.url ?? '', s3: bucket.url, linkSeconds, logger: silent },
    limits: { waiting: 256, runMs: 60_000 },
  })

async function serve(linkSeconds?: number): Promise<string> {
  const server = await createServer({
    ...{
      queue: await shared(linkSeconds),
      port: 0,
      data: path.join(folder, `server ${closes.length}`),
      logger: silent,
    },
  })
  closes.push(() => server.close())
  return server.listen()
}

async function startWorker(): Promise<ChildProcess> {
  const options = ['--redis', redis?.url ?? '', '--s3', bucket.url, '--data', path.join(folder, 'worker')]
  const worker = spawn(process.execPath, [command, 'worker', ...options, '--grace', '20'], {
    stdio: 'ignore',
  })
  workers.push(worker)
  await once(worker, 'spawn')
  return worker
}

const bytesOf = async (answer: Promise<Response>) => Buffer.from(await (await answer).arrayBuffer())

test('videos are made on another machine, lie in the bucket, and come through any server', {
  skip,
}, async () => {
  const [one, other] = [await serve(), await serve(60)]
  assert.equal((await fetch(`${one}/readyz`)).status, 503, 'no worker yet')
  const left = path.join(folder, 'worker', 'worker-killed')
  mkdirSync(left, { recursive: true })
  const worker = await startWorker()
  await until(async () => (await fetch(`${one}/readyz`)).ok)
  assert.ok(!existsSync(left), 'what a killed worker left is removed')
  const asked = await create(one, 'a big red circle moving left', { steps: 2, seed: 5 })
  await untilState(other, asked.id, 'completed')
  const content = `v1/videos/${asked.id}/content`
  const whole = await bytesOf(fetch(`${one}/${content}`))
  assert.deepEqual(whole, bucket.objects.get(`videos/${asked.id}/video.mp4`))
  assert.deepEqual(
    await bytesOf(fetch(`${one}/${content}`, { headers: { range: 'bytes=4-11' } })),
    whole.subarray(4, 12),
  )
  const answer = await fetch(`${other}/${content}`, { redirect: 'manual' })
  assert.equal(answer.status, 302)
  assert.deepEqual(await bytesOf(fetch(answer.headers.get('location') ?? '')), whole)
  const policy = async (url: string) => (await fetch(url)).headers.get('content-security-policy') ?? ''
  const { origin } = new URL(bucket.url)
  assert.ok(
    (await policy(other)).includes(`media-src 'self' blob: ${origin};`),
    'the page may show the bucket',
  )
  assert.ok(!(await policy(one)).includes(origin))

  const form = new FormData()
  form.set('prompt', 'a big blue circle moving left')
  form.set('video', new Blob([new Uint8Array(whole)], { type: 'video/mp4' }), 'circle.mp4')
  form.set('steps', '2')
  const edited = await json(fetch(`${one}/v1/videos/edits`, { method: 'POST', body: form }))
  const done = await untilState(one, edited.id, 'completed', 'failed')
  assert.equal(done.torchreel.state, 'completed', done.error?.message)
  await until(async () => !bucket.objects.has(`videos/${edited.id}/input`))

  assert.equal((await fetch(`${other}/v1/videos/${asked.id}`, { method: 'DELETE' })).status, 200)
  assert.ok(![...bucket.objects.keys()].some((key) => key.includes(asked.id)))
  const gone = once(worker, 'exit')
  worker.kill('SIGTERM')
  assert.deepEqual(await gone, [0, null])
  assert.deepEqual(readdirSync(path.join(folder, 'worker')), [])
})

test('case 29: a bucket that fails twice, then for good: the job completes, then fails with the reason', {
  skip,
}, async () => {
  const url = await serve()
  await startWorker()
  await until(async () => (await fetch(`${url}/readyz`)).ok)
  // It fails the server's and the worker's requests alike; each tries three times.
  const first = await create(url, 'a boat', { steps: 2, seed: 1 })
  bucket.failures = 2
  assert.equal((await untilState(url, first.id, 'completed', 'failed')).torchreel.state, 'completed')
  bucket.failures = 0
  const second = await json(post(`${url}/v1/videos`, { prompt: 'a boat', steps: 40, seed: 2 }))
  bucket.failures = Number.POSITIVE_INFINITY
  const failed = await untilState(url, second.id, 'completed', 'failed')
  assert.equal(failed.torchreel.state, 'failed')
  assert.match(failed.error?.message ?? '', /the storage answered PUT .* with 500/)
  bucket.failures = 0
  assert.ok(![...bucket.objects.keys()].some((key) => key.includes(second.id)))
})
