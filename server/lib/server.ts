import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import type { Hono } from 'hono'
import { pino } from 'pino'
import type { Files } from './files/files.js'
import { makeFolder } from './files/folder.js'
import { type AppEnv, createApp } from './http/app.js'
import { descriptionRoutes, openApiRoutes } from './http/description_routes.js'
import { Events } from './http/events.js'
import { type GuardOptions, ownOrigin } from './http/guard.js'
import { Keys } from './http/keys.js'
import { Listener } from './http/listener.js'
import { Metrics } from './http/metrics.js'
import { healthRoutes, metricsRoutes, sessionRoutes } from './http/operation_routes.js'
import { pageRoutes } from './http/page.js'
import { Open, Rates } from './http/rates.js'
import { videoRoutes } from './http/video_routes.js'
import { EmbeddedJobs } from './jobs/embedded.js'
import { FolderLock } from './jobs/folder_lock.js'
import type { Jobs, Worker } from './jobs/jobs.js'
import { McpOverHttp } from './mcp/routes.js'
import { Models, modelSources } from './models.js'
import { defaultLimits, type ServerOptions } from './options.js'
import { Requests } from './requests.js'
import { endKeepers, keepersLoaded, startKeepers } from './work/keepers.js'

export interface Server {
  /** Answers a request, for a caller with a server of his own. */
  readonly fetch: (request: Request) => Promise<Response>
  readonly jobs: Jobs
  readonly files: Files
  /** The folder of the jobs. */
  readonly data: string
  /** Listens; gives the address. */
  listen(): Promise<string>
  /** Resolves when this server's own processes have loaded the models. Rejects with the reason if they cannot be loaded. */
  ready(): Promise<void>
  /**
   * Ends everything. A running job may end within the grace; else it is put back, and made after the next start.
   *
   * @param grace milliseconds
   */
  close(grace?: number): Promise<void>
}

const day = 24 * 3_600_000
const loopback = ['localhost', '127.0.0.1', '[::1]', '::1']

export const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string
}

export const defaultData = path.join(
  process.env.XDG_DATA_HOME || path.join(homedir(), '.local', 'share'),
  'torchreel-server',
)

/**
 * Makes a server: opens the queue and starts the processes that load the models. This process never opens libtorch.
 *
 * @throws Error for a folder that another server owns, a host that is open to others without keys, a broken file of keys
 */
export async function createServer(options: ServerOptions = {}): Promise<Server> {
  const { host = '127.0.0.1', port = 8080, logger = pino(pino.destination(2)) } = options
  const data = path.resolve(options.data ?? defaultData)
  const limits = { ...defaultLimits, ...options.limits }
  if (!loopback.includes(host) && options.keys === undefined && options.noLogin !== true)
    throw new Error(
      `${host} is open to other machines. Make a key with --new-key NAME and start with --keys FILE, or say --no-login`,
    )
  const uploads = path.join(data, 'uploads')
  const work = path.join(data, 'work')
  const sources = modelSources(options.models ?? ['shapes'])
  const ids = options.queue && options.models === undefined ? [] : sources.map(({ id }) => id)
  checkAliases(options, ids)
  await makeFolder(data)
  const keys =
    options.keys === undefined ? undefined : await Keys.read(options.keys, path.join(data, 'session.secret'))
  const guard = guardOf(options, host, keys)
  const lock = options.queue && (await FolderLock.take(data))
  const queue = options.queue ?? (await openEmbedded(options, data, limits, logger))
  const { jobs, files } = queue
  // What an earlier process was writing when it ended; the folder is this process's own now.
  for (const folder of [uploads, work]) {
    await rm(folder, { recursive: true, force: true })
    await makeFolder(folder)
  }
  const devices = options.devices ?? (options.queue ? [] : ['auto'])
  const keepers = options.workers
    ? []
    : startKeepers({
        ...{ devices, models: sources, pixels: limits.pixels, workFolder: work, logger },
        place: queue.place,
        ...{ pipeline: options.pipeline, runner: options.runner, ffmpeg: options.ffmpeg },
        ...{ loras: options.loras, cancelGrace: options.cancelGrace },
      })
  const workers: readonly Worker[] = options.workers ?? keepers
  const working = await Promise.all(workers.map((worker) => jobs.work(worker)))

  let isClosing = false
  const models = new Models(jobs, ids, options.aliases ?? {})
  const streams = new Open('streams of events', keys ? limits.streamsOfKey : Infinity, limits.streams)
  const events = new Events(jobs)
  const metrics = new Metrics(jobs, workers, () => streams.all)
  const requests = new Requests(
    jobs,
    files,
    models,
    { ...limits, unfinished: keys ? limits.unfinished : Infinity },
    uploads,
  )
  const shown = { pixels: limits.pixels, steps: limits.steps, upload: limits.upload, waiting: limits.waiting }
  const mcp = new McpOverHttp({
    answer: async (request) => app.fetch(request),
    version,
    originOf: (request) => ownOrigin(request, guard),
    maxBytes: limits.json,
  })
  const app: Hono<AppEnv> = createApp({
    guard,
    logger,
    metrics,
    open: [
      healthRoutes(jobs, files, () => isClosing),
      sessionRoutes(guard),
      openApiRoutes({ version }),
      await pageRoutes(options.page !== false),
    ],
    guarded: [
      descriptionRoutes({ models, limits: shown, maxSteps: limits.steps, version }),
      videoRoutes({
        ...{ jobs, files, requests, events, streams },
        rates: new Rates(keys ? limits.perMinute : Infinity),
        bodies: { json: limits.json, upload: limits.upload, folder: uploads },
        linkSeconds: queue.linkSeconds,
        isClosing: () => isClosing,
      }),
      metricsRoutes(metrics),
      mcp.routes,
      (app: Hono<AppEnv>) => options.mount?.(app, { jobs, files }),
    ],
  })

  let listener: Listener | undefined
  let closing: Promise<void> | undefined
  return {
    jobs,
    files,
    data,
    fetch: async (request) => app.fetch(request),
    listen: async () => {
      listener = await Listener.open(app.fetch, host, port, limits.requestMs)
      return listener.address
    },
    ready: () => keepersLoaded(keepers),
    close(grace = 0) {
      closing ??= (async () => {
        isClosing = true
        events.close()
        await mcp.close()
        const answered = listener?.close()
        await endKeepers(keepers, working, grace)
        await answered
        metrics.close()
        await jobs.close()
        await lock?.release()
      })()
      return closing
    },
  }
}

/** Workers on other machines may have models that this server does not know. */
function checkAliases({ aliases = {}, queue }: ServerOptions, ids: readonly string[]): void {
  for (const [name, id] of Object.entries(aliases))
    if (!queue && !ids.includes(id))
      throw new Error(`the alias ${name} is for the model ${id}, but this server has ${ids.join(', ')}`)
}

async function openEmbedded(
  options: ServerOptions,
  folder: string,
  limits: typeof defaultLimits,
  logger: NonNullable<ServerOptions['logger']>,
): Promise<NonNullable<ServerOptions['queue']>> {
  const { keepJobs, keepDays, keepBytes } = options
  const jobs = await EmbeddedJobs.open({
    ...{ folder, logger, maxWaiting: limits.waiting, maxRunMs: limits.runMs },
    kept: {
      ...(keepJobs !== undefined && { jobs: keepJobs }),
      ...(keepDays !== undefined && { ms: keepDays * day }),
      ...(keepBytes !== undefined && { bytes: keepBytes }),
    },
  })
  return { jobs, files: jobs.files, place: { kind: 'folder', folder: path.join(folder, 'jobs') } }
}

function guardOf(options: ServerOptions, host: string, keys: Keys | undefined): GuardOptions {
  const { hostNames = [], origins = [], publicUrl, trustProxy = false, queue } = options
  const url = publicUrl === undefined ? undefined : new URL(publicUrl)
  const isAny = host === '0.0.0.0' || host === '::'
  const hosts = [...loopback, ...(isAny ? [] : [host]), ...hostNames, ...(url ? [url.hostname] : [])]
  const bucket =
    queue?.place.kind === 's3' && queue.linkSeconds !== undefined
      ? new URL(queue.place.url).origin
      : undefined
  return { keys, hosts: hosts.map((name) => name.toLowerCase()), origins, publicUrl: url, trustProxy, bucket }
}
