import { setCookie } from 'hono/cookie'
import { readJson } from '../body.js'
import { ApiError, forbidden } from '../errors.js'
import type { Files } from '../files/files.js'
import type { Jobs } from '../jobs/jobs.js'
import type { Routes } from './app.js'
import { type GuardOptions, isSecure, sessionCookie } from './guard.js'
import type { Metrics } from './metrics.js'

/** Whether the process answers, and whether it can make videos. */
export function healthRoutes(jobs: Jobs, files: Files, isClosing: () => boolean): Routes {
  const missing = async (): Promise<string[]> => {
    if (isClosing()) return ['the server is shutting down']
    const answers = await Promise.allSettled([within(5_000, files.ready()), within(5_000, jobs.ready())])
    return answers.flatMap((answer) =>
      answer.status === 'rejected' ? [withoutUserInfo(String(answer.reason?.message))] : [],
    )
  }
  return (app) => {
    app.get('/healthz', (c) => c.json({ status: 'ok' }))
    app.get('/readyz', async (c) => {
      const reasons = await missing()
      if (reasons.length === 0) return c.json({ status: 'ready' })
      return c.json({ status: 'not ready', missing: [...new Set(reasons)] }, 503)
    })
  }
}

export function metricsRoutes(metrics: Metrics): Routes {
  return (app) => {
    app.get('/metrics', async (c) => {
      if (!c.get('owner').isAdmin) throw forbidden('metrics need the key of an administrator', 'admin_only')
      const { text, type } = await metrics.text()
      return c.body(text, 200, { 'content-type': type })
    })
  }
}

/** Exchanges a key for a cookie, so that the page's videos and events, which can send no header, are allowed. */
export function sessionRoutes(guard: GuardOptions): Routes {
  const { keys } = guard
  return (app) => {
    app.post('/session', async (c) => {
      const key = (await readJson(c.req.raw, 4096)).get('key')
      const owner = typeof key === 'string' ? keys?.find(key) : undefined
      if (keys && !owner)
        throw new ApiError(
          401,
          'authentication_error',
          'invalid_api_key',
          'the server does not know this key',
        )
      if (keys && owner)
        setCookie(c, sessionCookie, keys.startSession(owner), {
          httpOnly: true,
          sameSite: 'Strict',
          secure: isSecure(c.req.raw, guard),
          path: '/',
          maxAge: 30 * 24 * 3600,
        })
      return c.json({ owner: owner?.name ?? 'local' })
    })
    app.delete('/session', (c) => {
      setCookie(c, sessionCookie, '', { httpOnly: true, sameSite: 'Strict', path: '/', maxAge: 0 })
      return c.body(null, 204)
    })
  }
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms)
  })
  await Promise.race([work, late]).finally(() => clearTimeout(timer))
}

/** URLs may hold passwords. */
const withoutUserInfo = (text: string) => text.replace(/\/\/[^/@\s]*@/g, '//')
