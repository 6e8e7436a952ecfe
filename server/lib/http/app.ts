import { Hono } from 'hono'
import { requestId } from 'hono/request-id'
import { routePath } from 'hono/route'
import type { Logger } from 'pino'
import { notFound } from '../errors.js'
import { answerError } from './error_answers.js'
import { allowOrigins, checkHost, checkKey, checkOrigin, type GuardOptions, headers } from './guard.js'
import type { Owner } from './keys.js'
import type { Metrics } from './metrics.js'
import { takeTurns } from './turns.js'

export type AppEnv = { Variables: { requestId: string; owner: Owner } }

/** The routes of one subject. */
export type Routes = (app: Hono<AppEnv>) => void

export interface AppOptions {
  readonly guard: GuardOptions
  readonly logger: Logger
  readonly metrics: Metrics
  /** For everybody: the page, health, the description. */
  readonly open: readonly Routes[]
  /** For whoever has a key, if there are keys. */
  readonly guarded: readonly Routes[]
}

/** All requests come through here: first who may, then what. */
export function createApp({ guard, logger, metrics, open, guarded }: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use(takeTurns())
  app.use(requestId())
  app.use(async (c, next) => {
    const began = performance.now()
    await next()
    const seconds = (performance.now() - began) / 1000
    const { method } = c.req.raw
    const route = routePath(c, -1)
    const { status } = c.res
    metrics.request(`${method} ${route}`, status, seconds)
    const owner = (c.get('owner') as Owner | undefined)?.name
    const ms = Math.round(seconds * 1000)
    // The path without its query, which could hold what a client typed.
    logger.info({ requestId: c.get('requestId'), method, path: c.req.path, status, ms, owner }, 'request')
  })
  app.use(headers(guard))
  app.use(checkHost(guard))
  app.use(allowOrigins(guard))
  app.use(checkOrigin(guard))
  for (const add of open) add(app)
  app.use('/v1/*', checkKey(guard))
  app.use('/mcp', checkKey(guard))
  app.use('/metrics', checkKey(guard))
  for (const add of guarded) add(app)
  app.notFound((c) => answerError(notFound(`there is no ${c.req.method} ${c.req.path}`), c, logger))
  app.onError((error, c) => answerError(error, c, logger))
  return app
}
