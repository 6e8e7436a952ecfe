// Files of jobs in a bucket whose signatures are checked. Case 29: a storage that fails.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { S3Files } from '#server/files/s3.js'
import { credentials, startBucket } from '../support/s3.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-s3-'))
after(() => rmSync(folder, { recursive: true }))
const id = 'video_0123456789abcdefghjkmnpqrs'
const content = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251))

test('a file goes in whole, by a path or as bytes, and comes back whole, in part, and to a path', async () => {
  await using bucket = await startBucket()
  const files = new S3Files({ url: `${bucket.url}/here`, ...credentials })
  const source = path.join(folder, 'source')
  writeFileSync(source, content)
  await files.put(id, 'video.mp4', { path: source })
  assert.ok(!existsSync(source), 'the file was moved')
  await files.put(id, 'thumbnail.png', content.subarray(0, 5))
  assert.deepEqual(
    [...bucket.objects.keys()],
    [`here/videos/${id}/video.mp4`, `here/videos/${id}/thumbnail.png`],
  )

  const facts = await files.facts(id, 'video.mp4')
  assert.equal(facts?.size, 1000)
  assert.equal(facts?.type, 'video/mp4')
  const whole = await files.open(id, 'video.mp4')
  assert.deepEqual(await buffer(whole?.stream as NodeJS.ReadableStream), content)
  const part = await files.open(id, 'video.mp4', { start: 10, end: 19 })
  assert.equal(part?.size, 1000)
  assert.equal(part?.etag, facts?.etag)
  assert.deepEqual(await buffer(part?.stream as NodeJS.ReadableStream), content.subarray(10, 20))

  const copy = path.join(folder, 'copy')
  assert.equal(await files.fetch(id, 'video.mp4', copy), true)
  assert.deepEqual(readFileSync(copy), content)
  assert.equal(await files.fetch(id, 'input', path.join(folder, 'none')), false)
  assert.equal(await files.facts(id, 'input'), undefined)
  await files.ready()
})

test('an address that was signed beforehand gives the file, and not after a change', async () => {
  await using bucket = await startBucket()
  const files = new S3Files({ url: bucket.url, ...credentials })
  await files.put(id, 'video.mp4', content)
  const link = await files.link(id, 'video.mp4', 300, 'a-boat.mp4')
  assert.deepEqual(Buffer.from(await (await fetch(link)).arrayBuffer()), content)
  assert.equal((await fetch(link.replace('a-boat', 'another'))).status, 403)
})

test('removing takes some files, or all', async () => {
  await using bucket = await startBucket()
  const files = new S3Files({ url: bucket.url, ...credentials })
  for (const name of ['input', 'video.mp4', 'result.json'] as const) await files.put(id, name, content)
  await files.remove(id, ['input'])
  assert.deepEqual([...bucket.objects.keys()], [`videos/${id}/video.mp4`, `videos/${id}/result.json`])
  await files.remove(id)
  assert.equal(bucket.objects.size, 0)
})

test('case 29: two errors of the storage are overcome; an endless one is told, and no object stays', async () => {
  await using bucket = await startBucket()
  const files = new S3Files({ url: bucket.url, ...credentials })
  bucket.failures = 2
  await files.put(id, 'video.mp4', content)
  assert.deepEqual(
    bucket.seen,
    Array.from({ length: 2 }, () => `PUT videos/${id}/video.mp4 500`).concat(
      `PUT videos/${id}/video.mp4 200`,
    ),
  )
  bucket.objects.clear()
  bucket.failures = Number.POSITIVE_INFINITY
  await assert.rejects(files.put(id, 'video.mp4', content), /answered PUT video\.mp4 with 500/)
  assert.equal(bucket.objects.size, 0)
})

test('wrong keys and addresses are told at the start', async () => {
  await using bucket = await startBucket()
  const wrong = new S3Files({ url: bucket.url, ...credentials, secretAccessKey: 'wrong' })
  await assert.rejects(wrong.ready(), /403/)
  assert.equal(bucket.seen.length, 1, 'a refusal is not asked for again')
  assert.throws(
    () => new S3Files({ url: bucket.url, accessKeyId: '', secretAccessKey: '' }),
    /AWS_ACCESS_KEY_ID/,
  )
  assert.throws(() => new S3Files({ url: 'https://host', ...credentials }), /BUCKET/)
})
