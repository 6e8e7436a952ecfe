import type { MiddlewareHandler } from 'hono'
import { getCookie } from 'hono/cookie'
import { cors } from 'hono/cors'
import { secureHeaders } from 'hono/secure-headers'
import { ApiError, forbidden } from '../errors.js'
import type { AppEnv } from './app.js'
import type { Keys, Owner } from './keys.js'

export interface GuardOptions {
  readonly keys: Keys | undefined
  /** Names that `Host` may have, without a port. */
  readonly hosts: readonly string[]
  /** Origins of other pages that may use this server. */
  readonly origins: readonly string[]
  /** The address that clients use, if it is another one, as behind a proxy. */
  readonly publicUrl: URL | undefined
  readonly trustProxy: boolean
  /** The origin of the bucket that clients are sent to for videos. */
  readonly bucket: string | undefined
}

export const sessionCookie = 'torchreel_session'
export const local: Owner = { name: 'local', isAdmin: true }

const allowedHeaders = [
  'authorization',
  'content-type',
  'idempotency-key',
  'prefer',
  'range',
  'last-event-id',
]
const exposedHeaders = [
  'x-request-id',
  'openai-poll-after-ms',
  'retry-after-ms',
  'content-range',
  'etag',
  'x-torchreel-seed',
  'x-torchreel-id',
]

/** Browsers may run only what this server itself serves, and show that and what lies in its bucket. */
export function headers({ bucket }: GuardOptions): MiddlewareHandler {
  const shown = ["'self'", 'blob:', ...(bucket === undefined ? [] : [bucket])]
  return secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: shown,
      mediaSrc: shown,
      connectSrc: ["'self'"],
      formAction: ["'self'"],
      frameAncestors: ["'none'"],
      baseUri: ["'none'"],
    },
    crossOriginResourcePolicy: 'same-origin',
    referrerPolicy: 'no-referrer',
    strictTransportSecurity: false, // the proxy's to say
    xFrameOptions: 'DENY',
    xXssProtection: false,
  })
}

/** Refuses a name that the server does not have: a page elsewhere may have pointed its own name here. */
export function checkHost({ hosts }: GuardOptions): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const host = hostOf(c.req.raw)
    if (!hosts.includes('*') && !hosts.includes(host))
      throw forbidden(
        `this server is not ${host.slice(0, 100)}; start it with --host-name ${host.slice(0, 100)}`,
        'host_not_allowed',
      )
    await next()
  }
}

/** Refuses what a page of another origin sends by a visitor's browser. Links from elsewhere may be followed. */
export function checkOrigin(options: GuardOptions): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const { method, headers } = c.req.raw
    if (!['GET', 'HEAD', 'OPTIONS'].includes(method)) {
      const origin = headers.get('origin')
      const isListed = origin !== null && options.origins.includes(origin)
      if (origin !== null && !isListed && origin !== ownOrigin(c.req.raw, options))
        throw forbidden(
          `pages of ${origin.slice(0, 100)} may not use this server; see --origin`,
          'origin_not_allowed',
        )
      if (headers.get('sec-fetch-site') === 'cross-site' && !isListed)
        throw forbidden('pages of other sites may not use this server; see --origin', 'origin_not_allowed')
    }
    await next()
  }
}

/** Lets the listed origins in, by their exact names, without cookies. */
export function allowOrigins({ origins }: GuardOptions): MiddlewareHandler {
  return cors({
    origin: (origin) => (origins.includes(origin) ? origin : null),
    allowMethods: ['GET', 'HEAD', 'POST', 'DELETE'],
    allowHeaders: allowedHeaders,
    exposeHeaders: exposedHeaders,
    maxAge: 600,
  })
}

/** Finds out who asks. */
export function checkKey({ keys }: GuardOptions): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    c.set('owner', keys ? findOwner(keys, c.req.raw, getCookie(c, sessionCookie)) : local)
    await next()
  }
}

function findOwner(keys: Keys, request: Request, cookie: string | undefined): Owner {
  const [, key] = /^Bearer +(\S+)$/i.exec(request.headers.get('authorization') ?? '') ?? []
  const owner = key === undefined ? cookie && keys.findSession(cookie) : keys.find(key)
  if (owner) return owner
  const message =
    key === undefined
      ? 'this server needs a key: Authorization: Bearer KEY'
      : 'the server does not know this key'
  throw new ApiError(401, 'authentication_error', 'invalid_api_key', message, null, {
    'www-authenticate': 'Bearer',
  })
}

/** Without the port. */
function hostOf({ headers, url }: Request): string {
  const host = headers.get('host') ?? new URL(url).host
  return host.replace(/:\d+$/, '').toLowerCase()
}

/** The server's address as the client of a request sees it. */
export function ownOrigin({ headers, url }: Request, { publicUrl, trustProxy }: GuardOptions): string {
  if (publicUrl) return publicUrl.origin
  const forwarded = (name: string) => (trustProxy ? headers.get(name)?.split(',')[0]?.trim() : undefined)
  const host = forwarded('x-forwarded-host') ?? headers.get('host') ?? new URL(url).host
  return `${forwarded('x-forwarded-proto') ?? 'http'}://${host}`.toLowerCase()
}

/** Whether the page is shown over https, so that its cookie can be kept to that. */
export function isSecure({ headers }: Request, { publicUrl, trustProxy }: GuardOptions): boolean {
  return publicUrl
    ? publicUrl.protocol === 'https:'
    : trustProxy && headers.get('x-forwarded-proto') === 'https'
}
