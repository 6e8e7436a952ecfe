// Server-sent events.
import assert from 'node:assert/strict'
import net from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { Video } from '#server/videos.js'
import { create, json, type Running, start, until, untilState } from '../support/acting_server.js'

let running: Running
before(async () => {
  running = await start()
})
after(() => running.close())

interface Heard {
  readonly videos: Map<string, Video>
  readonly events: { id: number; event: string; data: Video }[]
  text: string
  ended: boolean
  stop(): void
}

async function listen(path = '/v1/events'): Promise<Heard> {
  const abort = new AbortController()
  const answer = await fetch(running.url + path, { signal: abort.signal })
  assert.equal(answer.headers.get('content-type'), 'text/event-stream')
  assert.equal(answer.headers.get('cache-control'), 'no-store')
  assert.equal(answer.headers.get('x-accel-buffering'), 'no')
  const heard: Heard = { videos: new Map(), events: [], text: '', ended: false, stop: () => abort.abort() }
  const read = async () => {
    let rest = ''
    const decoder = new TextDecoder()
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      const text = decoder.decode(chunk, { stream: true })
      heard.text += text
      const blocks = (rest + text).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        const fields = Object.fromEntries(
          block.split('\n').map((line) => [line.split(': ')[0], line.slice(line.indexOf(': ') + 2)]),
        )
        if (!fields.event) continue
        const data: Video = JSON.parse(fields.data ?? '')
        heard.events.push({ id: Number(fields.id), event: fields.event, data })
        if (fields.event === 'removed') heard.videos.delete(data.id)
        else heard.videos.set(data.id, data)
      }
    }
  }
  read().then(
    () => {
      heard.ended = true
    },
    () => {},
  )
  return heard
}

test('a stream begins with each unfinished video, and tells each change as a whole', async () => {
  const first = await create(running.url, 'steps 20 ms 20')
  const heard = await listen()
  await until(async () => heard.videos.get(first.id)?.torchreel.state === 'completed')
  const second = await create(running.url, 'a')
  await until(async () => heard.videos.get(second.id)?.torchreel.state === 'completed')
  await fetch(`${running.url}/v1/videos/${second.id}`, { method: 'DELETE' })
  await until(async () =>
    heard.events.some(({ event, data }) => event === 'removed' && data.id === second.id),
  )
  const ids = heard.events.map(({ id }) => id)
  assert.deepEqual(
    ids,
    [...ids].sort((a, b) => a - b),
  )
  const steps = heard.events
    .filter(({ data }) => data.id === first.id)
    .map(({ data }) => data.torchreel.step ?? 0)
  assert.ok(steps.length >= 3 && steps.length <= 12, `${steps.length} events in 400 ms of 20 steps`)
  assert.match(heard.text, /^retry: 1000\n\n/)
  heard.stop()
})

test('the stream of one video tells of it alone, and ends with it', async () => {
  const [one, other] = [await create(running.url, 'steps 10 ms 20'), await create(running.url, 'b')]
  const heard = await listen(`/v1/videos/${one.id}/events`)
  await until(async () => heard.ended)
  assert.deepEqual([...new Set(heard.events.map(({ data }) => data.id))], [one.id])
  assert.equal(heard.events.at(-1)?.data.status, 'completed')
  const late = await listen(`/v1/videos/${one.id}/events`)
  await until(async () => late.ended)
  assert.deepEqual(
    late.events.map(({ data }) => data.status),
    ['completed'],
  )
  await untilState(running.url, other.id, 'completed')
})

test('case 20: whoever was cut off and comes back knows what a fresh list tells', async () => {
  const ids: string[] = []
  for (let i = 0; i < 6; i++) ids.push((await create(running.url, `steps 10 ms 20 number ${i}`)).id)
  const known = new Map<string, Video>()
  for (let cut = 0; cut < 4; cut++) {
    const heard = await listen()
    await wait(150)
    heard.stop()
    for (const [id, video] of heard.videos) known.set(id, video)
    await wait(100)
  }
  const last = await listen()
  for (const id of ids) await untilState(running.url, id, 'completed')
  const { data } = await json<{ data: Video[] }>(fetch(`${running.url}/v1/videos?limit=100`))
  await until(async () => [...last.videos.values()].every(({ torchreel }) => torchreel.state === 'completed'))
  // As a page does: the list at each connection, and events over it.
  const page = new Map([...known, ...data.map((video) => [video.id, video] as const), ...last.videos])
  for (const id of ids)
    assert.deepEqual(
      page.get(id),
      data.find((video) => video.id === id),
    )
  last.stop()
})

/** Notes which videos a stream says to have ended, without reading the rest. */
async function listenForEnds(): Promise<{ ends: Set<string>; stop(): void }> {
  const abort = new AbortController()
  const answer = await fetch(`${running.url}/v1/events`, { signal: abort.signal })
  const ends = new Set<string>()
  const read = async () => {
    let rest = ''
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      const text = rest + Buffer.from(chunk).toString('latin1')
      for (const [, id] of text.matchAll(/"id":"(video_\w+)","object":"video","status":"completed"/g))
        ends.add(id as string)
      rest = text.slice(-100)
    }
  }
  read().catch(() => {})
  return { ends, stop: () => abort.abort() }
}

test('[slow-clients] case 19: of a hundred streams the ten that never read are cut off; the others see every end', async () => {
  const heard = await Promise.all(Array.from({ length: 90 }, listenForEnds))
  const deaf = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const socket = net.connect(Number(new URL(running.url).port), '127.0.0.1')
      socket.on('error', () => {})
      socket.write('GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n')
      await new Promise((resolve) => socket.once('data', resolve))
      socket.pause()
      return socket
    }),
  )
  const clients = async () =>
    Number(/^torchreel_sse_clients (\d+)/m.exec(await (await fetch(`${running.url}/metrics`)).text())?.[1])
  assert.equal(await clients(), 100)
  // Long prompts fill what a socket holds, and then what the server holds for it.
  const prompt = '\u4e00'.repeat(19_900)
  const ids: string[] = []
  await until(async () => {
    ids.push((await create(running.url, `${prompt} ${ids.length}`)).id)
    return (await clients()) === 90
  }, 60_000)
  const last = ids.at(-1) as string
  await untilState(running.url, last, 'completed')
  for (const { ends } of heard) await until(async () => ids.every((id) => ends.has(id)))
  for (const one of heard) one.stop()
  for (const socket of deaf) socket.destroy()
  await until(async () => (await clients()) === 0)
})

test('[server-sigterm] at the end of the server its streams end with the time to come back', async () => {
  const server = await start()
  const answer = await fetch(`${server.url}/v1/events`)
  const text = answer.text()
  await server.close()
  assert.match(await text, /^retry: 1000\n\n/)
})

test('a HEAD takes no place among the streams', async () => {
  const small = await start({ limits: { streams: 2 } })
  try {
    const { id } = await create(small.url, 'a')
    for (const path of ['/v1/events', `/v1/videos/${id}/events`, '/v1/events']) {
      const answer = await fetch(small.url + path, { method: 'HEAD' })
      assert.equal(answer.status, 200)
      assert.equal(answer.headers.get('content-type'), 'text/event-stream')
    }
    const answer = await small.server.fetch(new Request(`${small.url}/v1/events`))
    assert.equal(answer.status, 200)
    await answer.body?.cancel()
  } finally {
    await small.close()
  }
})

test('a reader who leaves while an end is told troubles nobody', async () => {
  const { id } = await create(running.url, 'steps 1 ms 300')
  const open = async () => {
    const request = new Request(`${running.url}/v1/videos/${id}/events`)
    return (await running.server.fetch(request)).body?.getReader() as ReadableStreamDefaultReader<Uint8Array>
  }
  const first = await open()
  // More than are told in one turn.
  const others = await Promise.all(Array.from({ length: 40 }, open))
  const seen = async (reader: typeof first) => {
    let text = ''
    for (let part = await reader.read(); part.value; part = await reader.read())
      text += Buffer.from(part.value).toString()
    return text
  }
  const [stays = first, ...leaving] = others
  const end = seen(stays)
  assert.match(await seen(first), /"state":"completed"/)
  for (const reader of leaving) await reader.cancel()
  assert.match(await end, /"state":"completed"/)
  await wait(100)
})
