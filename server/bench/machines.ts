import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startRedis } from '../test/support/redis.js'
import { content, create, ended } from './client.js'

const jobs = 60
const workerCount = 3
const command = fileURLToPath(new URL('./cli/main.js', import.meta.resolve('torchreel-server')))

/** Two servers and three workers with shapes share one Redis, while workers are killed. */
export async function measureMachines(): Promise<Record<string, unknown>> {
  await using redis = await startRedis()
  if (!redis) throw new Error('this part needs redis-server')
  const folder = await mkdtemp(path.join(tmpdir(), 'torchreel-machines-'))
  const running = new Set<ChildProcess>()
  const start = async (program: string, options: string[]) => {
    const child = spawn(program, options, { stdio: ['ignore', 'pipe', 'ignore'] })
    await once(child, 'spawn')
    running.add(child)
    child.once('exit', () => running.delete(child))
    return child
  }
  try {
    const shared = ['--redis', redis.url, '--files', path.join(folder, 'files'), '--log-level', 'error']
    const urls: string[] = []
    for (const name of ['one', 'other']) {
      const server = await start(process.execPath, [
        command,
        ...shared,
        '--port',
        '0',
        '--data',
        path.join(folder, name),
      ])
      const [line] = (await once(server.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
      urls.push(line.toString().split('\n')[0] as string)
    }
    let started = 0
    const startWorker = () =>
      start(process.execPath, [
        command,
        'worker',
        ...shared,
        '--lock',
        '3',
        '--data',
        path.join(folder, `w${++started}`),
      ])
    const workers = await Promise.all(Array.from({ length: workerCount }, startWorker))
    const [url = '', other = ''] = urls
    while (!(await fetch(`${url}/readyz`)).ok) await wait(100)

    let kills = 0
    let killing = true
    const killer = (async () => {
      while (killing) {
        await wait(3000 + 4000 * Math.random())
        const at = Math.floor(workerCount * Math.random())
        workers[at]?.kill('SIGKILL')
        kills++
        workers[at] = await startWorker()
      }
    })()
    const begun = performance.now()
    const ask = (at: number, server: string) =>
      create(server, 'a big red circle moving left', { seed: at, steps: 8 })
    const asked: string[] = []
    for (let at = 0; at < jobs; at++) asked.push((await ask(at, urls[at % 2] as string)).answer.id)
    const ends = await Promise.all(asked.map((id) => ended(other, id)))
    killing = false
    await killer
    const seconds = (performance.now() - begun) / 1000

    // The same seeds once more, while nothing is killed.
    let equal = 0
    for (const [at, id] of asked.entries()) {
      if (ends[at]?.status !== 'completed') continue
      const again = (await ask(at, url)).answer.id
      await ended(url, again)
      if ((await content(url, id)).equals(await content(other, again))) equal++
    }
    return {
      ...{ servers: urls.length, workers: workerCount, jobs, kills, seconds: Math.round(seconds) },
      completed: ends.filter(({ status }) => status === 'completed').length,
      secondAttempts: ends.filter(({ torchreel }) => torchreel.attempt === 2).length,
      equalToTheirSeed: equal,
    }
  } finally {
    for (const child of running) child.kill('SIGKILL')
    await wait(200)
    await rm(folder, { recursive: true, force: true })
  }
}
