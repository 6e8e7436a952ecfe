import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import type { Job, Made } from '../jobs/job.js'
import { JobFailed, type RunningJob, type ServedModel, type Worker, WorkerLost } from '../jobs/jobs.js'
import { aliveEvery, type FromChild, type LoadOptions, type ToChild } from './messages.js'

export interface KeeperOptions {
  readonly load: LoadOptions
  /** Milliseconds that a cancelled job has for its end before its process is killed. */
  readonly cancelGrace: number
  readonly logger: Logger
  /** Milliseconds before the first new start. @defaultValue 1000 */
  readonly restartAfter?: number
  /** Milliseconds without a sign of life. @defaultValue 60000 */
  readonly silence?: number
}

interface Current {
  readonly job: Job
  readonly on: RunningJob
  readonly done: (made: Made) => void
  readonly failed: (error: Error) => void
}

const child = fileURLToPath(new URL('./child.js', import.meta.url))
const longestDelay = 60_000
const wordsKept = 2_000

/** Starts the process that holds the pipelines of a device, watches it, and starts it again when it has ended. */
export class Keeper implements Worker {
  readonly device: string
  readonly models: readonly string[]
  /** Resolves when the models are loaded for the first time. Rejects if they cannot be loaded: without libtorch, for example. */
  readonly loaded: Promise<void>
  #isLoadedOnce = () => {}
  #isUnloadable: (why: Error) => void = () => {}
  readonly #options: KeeperOptions
  #child: ChildProcess | undefined
  #gone: Promise<void> | undefined
  #loaded: readonly ServedModel[] | undefined
  #current: Current | undefined
  /** Ends in a row, without a job or a minute between. */
  #deaths = 0
  #restarts = 0
  #lastWords = ''
  #trouble: string | undefined
  #closed = false
  #restart: NodeJS.Timeout | undefined
  /** Looks in a row that found no sign of life. They are counted, because this process, too, may be stopped for a while. */
  #silentLooks = 0
  #loadedAt = performance.now()
  /** Whether this process ended it on purpose. */
  #killed = false
  readonly #watch: NodeJS.Timeout
  readonly #waiting = new Set<(loaded: readonly ServedModel[]) => void>()

  constructor(options: KeeperOptions) {
    this.#options = options
    this.device = options.load.device
    this.models = options.load.models.map(({ id }) => id)
    this.loaded = new Promise((resolve, reject) => {
      this.#isLoadedOnce = resolve
      this.#isUnloadable = reject
    })
    this.loaded.catch(() => {}) // who does not ask learns it from `trouble`
    this.#watch = setInterval(() => this.#checkAlive(), aliveEvery)
    this.#watch.unref()
    this.#start()
  }

  get isUp(): boolean {
    return this.#loaded !== undefined
  }

  get trouble(): string | undefined {
    return this.#trouble
  }

  get restarts(): number {
    return this.#restarts
  }

  /** The number of the process that holds the pipelines. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  available(signal: AbortSignal): Promise<readonly ServedModel[]> {
    if (this.#loaded) return Promise.resolve(this.#loaded)
    return new Promise((resolve, reject) => {
      const loaded = (models: readonly ServedModel[]) => {
        signal.removeEventListener('abort', aborted)
        this.#waiting.delete(loaded)
        resolve(models)
      }
      const aborted = () => {
        this.#waiting.delete(loaded)
        reject(signal.reason)
      }
      if (signal.aborted) return reject(signal.reason)
      signal.addEventListener('abort', aborted, { once: true })
      this.#waiting.add(loaded)
    })
  }

  readonly run = async (job: Job, on: RunningJob): Promise<Made> => {
    await this.available(on.signal)
    on.signal.throwIfAborted()
    let late: NodeJS.Timeout | undefined
    const cancel = () => {
      this.#send({ type: 'cancel', id: job.id })
      late = setTimeout(
        () => this.#kill('it did not end within the grace after a cancel'),
        this.#options.cancelGrace,
      )
    }
    try {
      return await new Promise<Made>((done, failed) => {
        this.#current = { job, on, done, failed }
        on.signal.addEventListener('abort', cancel, { once: true })
        this.#send({ type: 'run', job })
      })
    } finally {
      clearTimeout(late)
      on.signal.removeEventListener('abort', cancel)
      this.#current = undefined
    }
  }

  /** Ends the process, with whatever it does. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#watch)
    clearTimeout(this.#restart)
    this.#child?.kill('SIGKILL')
    await this.#gone
  }

  #start(): void {
    const { load, logger } = this.#options
    this.#lastWords = ''
    this.#silentLooks = 0
    const started = fork(child, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execArgv: [],
    })
    this.#child = started
    const { pid: childPid } = started
    started.stderr?.setEncoding('utf8').on('data', (words: string) => {
      this.#lastWords = (this.#lastWords + words).slice(-wordsKept)
    })
    started.on('message', (message: FromChild) => this.#hear(message))
    started.on('error', (error) => logger.error({ childPid, error: error.message }, 'worker'))
    this.#gone = new Promise((resolve) => {
      started.once('close', (code, signal) => {
        this.#ended(signal ?? `code ${code}`)
        resolve()
      })
    })
    this.#send({ type: 'load', options: load })
    logger.info({ childPid, device: this.device, models: this.models }, 'worker started')
  }

  #hear(message: FromChild): void {
    this.#silentLooks = 0
    const current = this.#current
    if (message.type === 'loaded') this.#isLoaded(message.models)
    else if (message.type === 'unloadable') this.#isUnloadable(new Error(message.message))
    else if (message.type === 'alive' || current?.job.id !== message.id) return
    else if (message.type === 'progress') current.on.progress(message.progress)
    else if (message.type === 'preview') current.on.preview()
    else {
      this.#deaths = 0
      if (message.type === 'made') current.done(message.made)
      else {
        const { code, message: text, parameter } = message.error
        current.failed(new JobFailed(code, text, parameter))
      }
    }
  }

  #isLoaded(models: readonly ServedModel[]): void {
    this.#loaded = models
    this.#loadedAt = performance.now()
    this.#trouble = undefined
    this.#options.logger.info({ device: this.device, models: this.models }, 'models loaded')
    this.#isLoadedOnce()
    for (const loaded of [...this.#waiting]) loaded(models)
  }

  #ended(how: string): void {
    const { restartAfter = 1_000, logger } = this.#options
    const words = this.#lastWords.trim()
    this.#child = undefined
    this.#loaded = undefined
    if (performance.now() - this.#loadedAt > longestDelay) this.#deaths = 0
    if (!this.#killed) this.#deaths++
    this.#restarts++
    const delay = this.#killed ? 0 : Math.min(restartAfter * 2 ** (this.#deaths - 1), longestDelay)
    const said = words ? `, with the last words: ${words}` : ''
    this.#trouble = `the worker on ${this.device} ended with ${how}${said}`
    const facts = { device: this.device, how, words, deaths: this.#deaths, delay }
    if (this.#closed) logger.info({ device: this.device }, 'worker ended')
    else logger.error(facts, 'worker ended')
    this.#killed = false
    if (!this.#closed) this.#restart = setTimeout(() => this.#start(), delay)
    this.#current?.failed(new WorkerLost(this.#trouble))
  }

  #checkAlive(): void {
    const { silence = 60_000 } = this.#options
    if (this.#child && ++this.#silentLooks * aliveEvery > silence)
      this.#kill(`it has been silent for ${silence} ms`)
  }

  #kill(why: string): void {
    this.#options.logger.warn({ device: this.device, why }, 'worker killed')
    this.#killed = true
    this.#child?.kill('SIGKILL')
  }

  #send(message: ToChild): void {
    // If it has ended, `close` says so.
    this.#child?.send(message, () => {})
  }
}
