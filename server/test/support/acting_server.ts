// Servers whose jobs cost nothing: within the test, or as a process that can be killed.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import type { Job } from '#server/jobs/job.js'
import type { Worker } from '#server/jobs/jobs.js'
import type { ServerOptions } from '#server/options.js'
import { createServer, type Server } from '#server/server.js'
import type { Video } from '#server/videos.js'
import { actor, served } from './acting_runner.js'

export const silent = pino({ level: 'silent' })

export function newFolder(): string {
  return mkdtempSync(path.join(tmpdir(), 'torchreel-server-'))
}

export interface Running {
  readonly url: string
  readonly server: Server
  readonly folder: string
  close(): Promise<void>
}

/** A server in this process; its workers act in this process, too. */
export async function start(options: ServerOptions & { workerCount?: number } = {}): Promise<Running> {
  const { workerCount = 1, ...rest } = options
  const folder = options.data ?? newFolder()
  let files: Server['files'] | undefined
  const worker = (): Worker => ({
    device: 'cpu',
    models: ['shapes'],
    isUp: true,
    trouble: undefined,
    available: async () => [served],
    run: (job, on) => actor(files as Server['files'])(job, on),
  })
  const workers = options.workers ?? Array.from({ length: workerCount }, worker)
  const server = await createServer({ port: 0, data: folder, logger: silent, workers, ...rest })
  files = server.files
  const url = await server.listen()
  return {
    ...{ url, server, folder },
    async close() {
      await server.close()
      if (options.data === undefined) rmSync(folder, { recursive: true, force: true })
    },
  }
}

export interface ErrorBody {
  readonly error: {
    readonly code: string
    readonly message: string
    readonly param: string | null
    readonly type: string
  }
}

export async function json<T = Video>(answer: Response | Promise<Response>): Promise<T> {
  return (await answer).json() as Promise<T>
}

/** The status of a refusal, its code and its parameter. */
export async function refusal(
  answer: Response | Promise<Response>,
): Promise<[number, string, string | null]> {
  const { status } = await answer
  const { error } = await json<ErrorBody>(answer)
  return [status, error.code, error.param]
}

export function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

export const create = (url: string, prompt: string, more: object = {}): Promise<Video> =>
  json(post(`${url}/v1/videos`, { prompt, ...more }))

export async function look(url: string, id: string): Promise<Video> {
  return json(fetch(`${url}/v1/videos/${id}`))
}

/** Waits for a state, or for what a function wants. */
export async function until<T>(wanted: () => Promise<T | undefined | false>, within = 20_000): Promise<T> {
  const late = performance.now() + within
  for (;;) {
    const found = await wanted().catch((error) => {
      if (performance.now() > late) throw error
      return undefined
    })
    if (found) return found
    if (performance.now() > late) throw new Error('it did not come')
    await wait(10)
  }
}

export const untilState = (url: string, id: string, ...states: string[]): Promise<Video> =>
  until(async () => {
    const video = await look(url, id)
    return states.includes(video.torchreel.state) && video
  })

const program = fileURLToPath(new URL('./server_program.js', import.meta.url))

/** A server in a process of its own, with a process for its jobs. */
export class ServerProcess {
  readonly folder = newFolder()
  readonly #options: object
  readonly #environment: Record<string, string>
  child: ChildProcess | undefined
  url = ''
  said = ''

  constructor(options: object = {}, environment: Record<string, string> = {}) {
    this.#options = options
    this.#environment = environment
  }

  async start(): Promise<this> {
    const options = JSON.stringify({ data: this.folder, port: 0, ...this.#options })
    const child = spawn(process.execPath, [program, options], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#environment },
    })
    this.child = child
    this.said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.said += text
    })
    this.url = await new Promise((resolve, reject) => {
      child.stdout.setEncoding('utf8').once('data', (text: string) => resolve(text.trim()))
      child.once('close', () => reject(new Error(`the server ended: ${this.said}`)))
    })
    return this
  }

  async ready(): Promise<this> {
    await until(async () => (await fetch(`${this.url}/readyz`)).ok)
    return this
  }

  get pid(): number {
    return this.child?.pid as number
  }

  /** The processes that hold pipelines. */
  workers(): number[] {
    return childrenOf(this.pid)
  }

  /** @returns the exit code, or the signal */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | string | undefined> {
    const { child } = this
    if (!child || child.exitCode !== null || child.signalCode !== null) return undefined
    const closed = once(child, 'close')
    child.kill(signal)
    const [code, by] = await closed
    return code ?? by
  }

  async gone(): Promise<void> {
    if (this.child?.exitCode === null && this.child.signalCode === null) await once(this.child, 'close')
  }

  async remove(): Promise<void> {
    await this.end()
    await wait(50)
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }

  /** What lies in the folder of a job. */
  filesOf(id: string): string[] {
    return readdirSync(path.join(this.folder, 'jobs', id)).sort()
  }

  recordOf(id: string): Job {
    return JSON.parse(readFileSync(path.join(this.folder, 'jobs', id, 'job.json'), 'utf8'))
  }
}

export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

export function isAlive(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return status.slice(status.lastIndexOf(')') + 2)[0] !== 'Z'
  } catch {
    return false
  }
}
