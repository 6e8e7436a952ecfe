import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'

/** A Redis of its own, which keeps what it was told on disk. */
export interface TestRedis extends AsyncDisposable {
  readonly url: string
  start(): Promise<void>
  /** Ends it by a signal. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
}

/** @returns undefined where there is no redis-server */
export async function startRedis(): Promise<TestRedis | undefined> {
  const folder = await mkdtemp(path.join(tmpdir(), 'torchreel-redis-'))
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  let running: ChildProcess | undefined

  const start = async () => {
    const settings = ['--port', `${port}`, '--dir', folder, '--bind', '127.0.0.1', '--save', '']
    running = spawn('redis-server', [...settings, '--appendonly', 'yes', '--appendfsync', 'always'], {
      stdio: 'ignore',
    })
    await once(running, 'spawn')
    const client = new Redis(url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
    client.on('error', () => {})
    await client.ping()
    client.disconnect()
  }
  const stop = async (signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL') => {
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const gone = once(running, 'exit')
    running.kill(signal)
    await gone
  }
  try {
    await start()
  } catch (error) {
    await rm(folder, { recursive: true })
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  return {
    ...{ url, start, stop },
    [Symbol.asyncDispose]: async () => {
      await stop()
      await wait(10)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}
