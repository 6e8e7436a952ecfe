import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { create, ended, remove } from './client.js'
import type { Told } from './measured_server.js'
import { startServer } from './server_process.js'

/** How the server is, without what the last requests have left for a moment. */
async function ask(child: ChildProcess): Promise<Told> {
  await wait(500)
  child.send('how')
  const [told] = (await once(child, 'message')) as [Told]
  return told
}

/**
 * Reads events until it is stopped; with `reads` false it reads nothing.
 *
 * @returns what ends it and gives the ids of videos that it saw completed
 */
async function openStream(url: string, reads: boolean): Promise<() => Promise<Set<string>>> {
  const stopped = new AbortController()
  const response = await fetch(`${url}/v1/events`, { signal: stopped.signal })
  const completed = new Set<string>()
  const reading = (async () => {
    if (!reads || !response.body) return
    let text = ''
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      text += part
      const events = text.split('\n\n')
      text = events.pop() ?? ''
      for (const event of events) {
        const data = /^data: ?(.*)$/m.exec(event)?.[1]
        const video = data?.startsWith('{') ? JSON.parse(data) : undefined
        if (video?.status === 'completed') completed.add(video.id)
      }
    }
  })().catch(() => {})
  return async () => {
    stopped.abort()
    await reading
    return completed
  }
}

/** Many requests at once, many streams of which some are never read, and many jobs in a row, whose videos cost nothing. */
export async function measureLoad(): Promise<Record<string, unknown>> {
  const data = await mkdtemp(path.join(tmpdir(), 'torchreel-load-'))
  const { child, url } = await startServer(data, 'free')
  try {
    const inRow = async (count: number) => {
      for (let made = 0; made < count; made++) {
        const { answer } = await create(url, `job ${made}`)
        if ((await ended(url, answer.id)).status !== 'completed') throw new Error(`${answer.id} failed`)
        await remove(url, answer.id)
      }
    }
    await inRow(200) // until compiled code and pools have their size
    const before = await ask(child)
    await inRow(1000)
    const after = await ask(child)

    const streams = await Promise.all(Array.from({ length: 100 }, (_, at) => openStream(url, at >= 10)))
    const begun = performance.now()
    const asked = await Promise.all(Array.from({ length: 300 }, (_, at) => create(url, `at once ${at}`)))
    const acceptedMs = performance.now() - begun
    const ends = await Promise.all(asked.map(({ answer }) => ended(url, answer.id)))
    await wait(1000)
    const during = await ask(child)
    const seen = (await Promise.all(streams.map((stop) => stop()))).slice(10)
    for (const { answer } of asked) await remove(url, answer.id)
    await wait(2000)
    const end = await ask(child)
    return {
      jobsInARow: { count: 1000, before, after },
      atOnce: {
        ...{ creates: 300, streams: 100, neverRead: 10 },
        acceptedMs: Math.round(acceptedMs),
        refusedAtFirst: asked.filter(({ refused }) => refused > 0).length,
        completed: ends.filter(({ status }) => status === 'completed').length,
        streamsThatSawAllEnds: seen.filter((ids) => asked.every(({ answer }) => ids.has(answer.id))).length,
        ...{ during, end },
      },
    }
  } finally {
    child.send('end')
    await once(child, 'exit')
    await rm(data, { recursive: true, force: true })
  }
}
