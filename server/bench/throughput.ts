import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { TextToVideoPipeline } from 'torchreel'
import { create, ended } from './client.js'
import { startServer } from './server_process.js'

const videos = 40
const rounds = 3
const prompt = (at: number) => `a big red circle moving left, take ${at}`

/** Videos a minute of a loop in one process, each written to an mp4. */
async function loop(folder: string): Promise<number> {
  await using pipeline = await TextToVideoPipeline.fromPretrained('shapes')
  const make = (at: number) =>
    pipeline.generate(prompt(at), {
      seed: at,
      output: { path: path.join(folder, `${at}.mp4`), overwrite: true },
    })
  await make(0)
  const begun = performance.now()
  for (let at = 1; at <= videos; at++) await make(at)
  return (videos * 60_000) / (performance.now() - begun)
}

/** Videos a minute of a server that was asked for all of them at once. */
async function server(folder: string): Promise<number> {
  const { child, url } = await startServer(path.join(folder, 'server'), 'real')
  try {
    await ended(url, (await create(url, prompt(0), { seed: 0 })).answer.id)
    const begun = performance.now()
    const asked: string[] = []
    for (let at = 1; at <= videos; at++) asked.push((await create(url, prompt(at), { seed: at })).answer.id)
    for (const id of asked) await ended(url, id, 250)
    return (videos * 60_000) / (performance.now() - begun)
  } finally {
    child.send('end')
    await once(child, 'exit')
  }
}

/** The server against a loop in one process, by turns. */
export async function measureThroughput(): Promise<Record<string, unknown>> {
  const folder = await mkdtemp(path.join(tmpdir(), 'torchreel-throughput-'))
  try {
    const loops: number[] = []
    const servers: number[] = []
    for (let round = 0; round < rounds; round++) {
      loops.push(await loop(folder))
      servers.push(await server(folder))
    }
    const middle = (values: number[]) => values.sort((one, other) => one - other)[rounds >> 1] as number
    return {
      ...{ model: 'shapes', videos, rounds },
      loopVideosPerMinute: middle(loops),
      serverVideosPerMinute: middle(servers),
      ratio: middle(servers) / middle(loops),
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
