// Case 22 and threats 12 and 13: bodies that are too large, too slow, broken, or no videos.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { json, post, type Running, refusal, start, until, untilState } from '../support/acting_server.js'

const limit = 100_000
let running: Running
before(async () => {
  running = await start({ limits: { upload: limit, json: 4096 } })
})
after(() => running.close())

const head = Buffer.from('\0\0\0\x18ftypmp42')
const video = (size: number) => Buffer.concat([head, Buffer.alloc(size - head.length)])
const send = (fields: Record<string, string | Blob>) => {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.append(name, value)
  return fetch(`${running.url}/v1/videos`, { method: 'POST', body: form })
}

/** Nothing of an upload stays: no file, and no folder of a job. */
async function nothingStays(): Promise<void> {
  await until(async () => readdirSync(path.join(running.folder, 'uploads')).length === 0)
  const { data } = await json<{ data: { id: string }[] }>(fetch(`${running.url}/v1/videos?limit=100`))
  assert.deepEqual(readdirSync(path.join(running.folder, 'jobs')).sort(), data.map(({ id }) => id).sort())
}

/** Writes bytes to a socket of its own, and gives what the server answers. */
async function exchange(
  write: (socket: net.Socket) => Promise<void> | void,
  url = running.url,
): Promise<string> {
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1')
  let answer = ''
  socket.setEncoding('utf8').on('data', (text) => {
    answer += text
  })
  const connected = once(socket, 'connect')
  socket.on('error', () => {})
  await connected
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await write(socket)
  await Promise.race([closed, wait(5_000, undefined, { ref: false })])
  socket.destroy()
  return answer
}

const requestHead = (length: number | 'chunked', boundary = 'x') =>
  `POST /v1/videos HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=${boundary}\r\n${length === 'chunked' ? 'transfer-encoding: chunked' : `content-length: ${length}`}\r\n\r\n`
const filePart =
  '--x\r\ncontent-disposition: form-data; name="input_reference"; filename="../../../evil.mp4"\r\n\r\n'

test('[request-too-large] case 22: an upload of the limit is taken, one byte more is refused', async () => {
  const taken = await json(send({ prompt: 'a', input_reference: new Blob([video(limit)]) }))
  await untilState(running.url, taken.id, 'completed')
  assert.deepEqual(await refusal(send({ prompt: 'a', input_reference: new Blob([video(limit + 1)]) })), [
    413,
    'too_large',
    'input_reference',
  ])
  await nothingStays()
})

test('[request-too-large] case 22: an upload without a length and without an end is cut off', async () => {
  let sent = 0
  const answer = await exchange(async (socket) => {
    socket.write(requestHead('chunked'))
    const chunk = (bytes: Buffer) => `${bytes.length.toString(16)}\r\n${bytes.toString('latin1')}\r\n`
    socket.write(chunk(Buffer.concat([Buffer.from(filePart), head])), 'latin1')
    for (; sent < 2000 && !socket.destroyed; sent++) {
      socket.write(chunk(Buffer.alloc(20_000)), 'latin1')
      await wait(2)
    }
  })
  assert.ok(sent < 2000, 'the connection was closed')
  // The answer may be lost: the system drops what was received when a connection that still sends is closed.
  assert.match(answer, /^(HTTP\/1.1 413 |$)/)
  await nothingStays()
})

test('[slow-clients] case 22: a byte now and then is no request', async () => {
  const hasty = await start({ limits: { requestMs: 700 } })
  const answer = await exchange(async (socket) => {
    socket.write(requestHead(1000))
    for (let i = 0; i < 80 && !socket.destroyed; i++) {
      socket.write('-')
      await wait(100)
    }
  }, hasty.url)
  assert.match(answer, /^HTTP\/1.1 408 /)
  await until(async () => readdirSync(path.join(hasty.folder, 'uploads')).length === 0)
  await hasty.close()
})

test('[slow-clients] headers that never end are no request; others are answered meanwhile', async () => {
  const hasty = await start({ limits: { requestMs: 700 } })
  const answer = await exchange(async (socket) => {
    socket.write('GET /v1/videos HTTP/1.1\r\n')
    for (let i = 0; i < 80 && !socket.destroyed; i++) {
      socket.write(`x-${i}: 1\r\n`)
      assert.equal((await fetch(`${hasty.url}/healthz`)).status, 200)
      await wait(100)
    }
  }, hasty.url)
  assert.match(answer, /^HTTP\/1.1 408 /)
  await hasty.close()
})

test('[request-too-large] case 22: ten thousand fields, long fields and names, two files', async () => {
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`field${i}`, '1']))
  assert.equal((await send({ prompt: 'a', ...many })).status, 413)
  assert.equal((await send({ prompt: 'a'.repeat(5000) })).status, 413)
  assert.equal((await send({ prompt: 'a', ['n'.repeat(500)]: '1' })).status, 400)
  assert.equal(
    (await send({ prompt: 'a', input_reference: new Blob([head]), video: new Blob([head]) })).status,
    400,
  )
  assert.equal((await send({ prompt: 'a', file: new Blob([head]) })).status, 400)
  assert.equal((await post(`${running.url}/v1/videos`, { prompt: 'a'.repeat(5000) })).status, 413)
  const twice = new FormData()
  for (const prompt of ['a', 'b']) twice.append('prompt', prompt)
  assert.equal((await fetch(`${running.url}/v1/videos`, { method: 'POST', body: twice })).status, 400)
  await nothingStays()
})

test('[malformed-requests, clients-leave] case 22: broken forms, and a hang-up at each place', async () => {
  const end = '\r\n--x--\r\n'
  const body = `--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na\r\n${filePart}${head.toString('latin1')}${'v'.repeat(300)}${end}`
  const whole = Buffer.from(body, 'latin1')
  for (const bad of [
    requestHead(whole.length, 'y'),
    requestHead(whole.length, ''),
    requestHead(whole.length).replace(/; boundary=x/, ''),
  ])
    assert.match(
      await exchange((socket) => void socket.write(Buffer.concat([Buffer.from(bad), whole]))),
      /^HTTP\/1.1 4(00|13|15) /,
    )
  // Said to be whole, but cut short.
  for (let length = 0; length < whole.length - 2; length += 23) {
    const cut = whole.subarray(0, length)
    const answer = await exchange(
      (socket) => void socket.write(Buffer.concat([Buffer.from(requestHead(cut.length)), cut])),
    )
    assert.match(answer, /^HTTP\/1.1 400 /, `${length} bytes`)
  }
  // The client goes away.
  for (let length = 0; length < whole.length; length += 61) {
    await exchange(
      (socket) =>
        void socket.end(Buffer.concat([Buffer.from(requestHead(whole.length)), whole.subarray(0, length)])),
    )
  }
  await nothingStays()
  const answer = await exchange(
    (socket) => void socket.write(Buffer.concat([Buffer.from(requestHead(whole.length)), whole])),
  )
  assert.match(answer, /^HTTP\/1.1 200 /)
  await nothingStays()
})

test('[malformed-requests] each cut of a JSON body is refused', async () => {
  const body = JSON.stringify({ prompt: 'ä boat', num_frames: 8 })
  const bytes = Buffer.from(body)
  for (let length = 0; length < bytes.length; length++) {
    const answer = await fetch(`${running.url}/v1/videos`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: bytes.subarray(0, length),
    })
    assert.equal(answer.status, 400, `${length} bytes`)
  }
})

test('[malformed-requests] threat 13: a playlist, a picture or anything but a video is refused by its first bytes', async () => {
  const upload = (content: string | Buffer) =>
    refusal(send({ prompt: 'a', input_reference: new Blob([content], { type: 'video/mp4' }) }))
  for (const text of [
    'ffconcat version 1.0\nfile /etc/passwd\n',
    '#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n',
    '<MPD></MPD>',
    '',
    'v',
  ])
    assert.deepEqual(await upload(text), [400, 'not_a_video', 'input_reference'], text)
  assert.deepEqual(await upload(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')), [
    400,
    'unsupported',
    'input_reference',
  ])
  assert.deepEqual(await upload(Buffer.from('\xff\xd8\xff\xe0', 'latin1')), [
    400,
    'unsupported',
    'input_reference',
  ])
  await nothingStays()
})
