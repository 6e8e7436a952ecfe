import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import { isIP, type Socket } from 'node:net'
import tls from 'node:tls'
import { TorchreelError } from '../errors.js'

/** A transient network error: worth a retry. */
export class Interruption extends Error {
  override readonly name = 'Interruption'
}

/** A server's refusal. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly status: number
  /** Hugging Face's `X-Error-Code`, such as GatedRepo. */
  readonly code: string | undefined

  constructor(url: URL, status: number, code: string | undefined) {
    super(`${url.host} answered ${status}${code ? ` (${code})` : ''}`)
    this.status = status
    this.code = code
  }
}

export interface HttpRequest {
  headers?: Record<string, string>
  /** A bearer token for the first origin only, not for those that it redirects to. */
  token?: string | undefined
  signal?: AbortSignal | undefined
  /** Milliseconds without a byte after which the request fails. */
  stallMs: number
}

const maxRedirects = 8

/**
 * GET that follows redirects and uses the proxies of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in either
 * case). Node's own fetch ignores proxies.
 *
 * @returns an answer with status 200, 206 or 416; the caller must read or destroy its body
 * @throws Interruption, Refusal (400 and above), TorchreelError `ERR_DOWNLOAD_FAILED` for a redirect that is not followed
 */
export async function get(start: URL, request: HttpRequest): Promise<http.IncomingMessage> {
  let url = start
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const response = await send(url, request, url.origin === start.origin ? request.token : undefined)
    const status = response.statusCode as number
    if (status === 200 || status === 206 || status === 416) return response
    const { location, 'x-error-code': code } = response.headers
    response.destroy()
    if (status >= 300 && status < 400 && location !== undefined) url = redirected(url, location)
    else if (status === 408 || status === 429 || status >= 500)
      throw new Interruption(`${url.host} answered ${status}`)
    // A redirect target's refusal is usually an expired signed URL: ask the first origin for a new one.
    else if (url.origin !== start.origin) throw new Interruption(`${url.host} answered ${status}`)
    else throw new Refusal(url, status, code?.toString())
  }
  throw new TorchreelError('ERR_DOWNLOAD_FAILED', `${start.host} redirects in circles`, { url: start.href })
}

/**
 * The headers of the first answer to HEAD that has an ETag, or of the last one. Hugging Face tells a file's hash where it
 * redirects to the storage.
 *
 * @throws as {@link get}
 */
export async function head(start: URL, request: HttpRequest): Promise<http.IncomingHttpHeaders> {
  let url = start
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const token = url.origin === start.origin ? request.token : undefined
    const response = await send(url, request, token, 'HEAD')
    const status = response.statusCode as number
    const { location, 'x-linked-etag': linked, 'x-error-code': code } = response.headers
    response.resume()
    if (status < 300 || linked !== undefined) return response.headers
    if (status < 400 && location !== undefined) url = redirected(url, location)
    else if (status === 408 || status === 429 || status >= 500)
      throw new Interruption(`${url.host} answered ${status}`)
    else throw new Refusal(url, status, code?.toString())
  }
  throw new TorchreelError('ERR_DOWNLOAD_FAILED', `${start.host} redirects in circles`, { url: start.href })
}

/** The target of a redirect: never from https to another protocol. */
export function redirected(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined
  if (to?.protocol === 'https:' || (to?.protocol === 'http:' && from.protocol === 'http:')) return to
  const where = to ? `${to.protocol}//${to.host}` : 'an invalid address'
  throw new TorchreelError(
    'ERR_DOWNLOAD_FAILED',
    `${from.origin} redirects to ${where}, which is not followed`,
    { url: from.origin },
  )
}

/** Sends one request. Every network failure is an Interruption, before the answer as well as inside its body. */
async function send(
  url: URL,
  { headers, signal, stallMs }: HttpRequest,
  token: string | undefined,
  method: 'GET' | 'HEAD' = 'GET',
): Promise<http.IncomingMessage> {
  signal?.throwIfAborted()
  const options: https.RequestOptions = {
    method,
    // Ranges and lengths count stored bytes, so no content encoding.
    headers: { 'user-agent': 'torchreel', 'accept-encoding': 'identity', ...headers },
    timeout: stallMs,
    ...(signal && { signal }),
  }
  if (token !== undefined) options.headers = { ...options.headers, authorization: `Bearer ${token}` }
  try {
    const request = await open(url, options, proxyFor(url))
    const stalled = new Interruption(`${url.host} sent nothing for ${stallMs / 1000} s`)
    let response: http.IncomingMessage | undefined
    request.setTimeout(stallMs, () => (response ?? request).destroy(stalled))
    request.end()
    ;[response] = (await once(request, 'response')) as [http.IncomingMessage]
    // Reading the body reports the error again. Until then it must not end the process.
    response.on('error', () => {})
    request.on('error', () => {})
    return response
  } catch (error) {
    throw interruption(error, url, signal)
  }
}

/** The bytes of an answer. A broken connection is an Interruption. */
export async function* bodyOf(
  response: http.IncomingMessage,
  url: URL,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  try {
    yield* response as AsyncIterable<Buffer>
  } catch (error) {
    throw interruption(error, url, signal)
  } finally {
    response.destroy()
  }
}

function interruption(error: unknown, url: URL, signal: AbortSignal | undefined): unknown {
  signal?.throwIfAborted()
  if (error instanceof Interruption || error instanceof TorchreelError) return error
  const { code, message } = error as NodeJS.ErrnoException
  return new Interruption(`${url.host}: ${message || code}`, { cause: error })
}

// ---- proxies --------------------------------------------------------------------------------------------------------

/** The proxy that the environment names for an address. */
export function proxyFor(url: URL, environment = process.env): URL | undefined {
  const variable = (name: string) => environment[name.toLowerCase()] || environment[name]
  const proxy = variable(url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY')
  if (!proxy || (variable('NO_PROXY') ?? '').split(/[\s,]+/).some((entry) => exempts(entry, url)))
    return undefined
  const address = proxy.includes('://') ? proxy : `http://${proxy}`
  if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) return new URL(address)
  throw new TorchreelError('ERR_DOWNLOAD_FAILED', 'the proxy in the environment is not an http(s) address', {
    parameter: url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY',
  })
}

/** Whether an entry of NO_PROXY matches: `*`, a host and its subdomains, or a host with a port. */
function exempts(entry: string, url: URL): boolean {
  if (entry === '*') return true
  const [, host, port] = /^\*?\.?(.+?)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? []
  if (host === undefined || (port !== undefined && port !== findPort(url))) return false
  return url.hostname === host || url.hostname.endsWith(`.${host}`)
}

function findPort(url: URL): string {
  return url.port || (url.protocol === 'https:' ? '443' : '80')
}

/** A request that is not sent yet: direct, through an http proxy, or through a tunnel of the proxy. */
async function open(
  url: URL,
  options: https.RequestOptions,
  proxy: URL | undefined,
): Promise<http.ClientRequest> {
  const client = url.protocol === 'https:' ? https : http
  if (!proxy) return client.request(url, options)
  if (client === http) {
    const headers = { ...options.headers, host: url.host, ...credentials(proxy) }
    return chooseClient(proxy).request(proxy, { ...options, headers, path: url.href })
  }
  const socket = await tunnel(url, options, proxy)
  return https.request(url, {
    ...options,
    createConnection: () =>
      tls.connect({ socket, host: url.hostname, ...(!isIP(url.hostname) && { servername: url.hostname }) }),
  })
}

async function tunnel(url: URL, options: https.RequestOptions, proxy: URL): Promise<Socket> {
  const target = `${url.hostname}:${findPort(url)}`
  const connect = chooseClient(proxy).request(proxy, {
    method: 'CONNECT',
    path: target,
    headers: { host: target, ...credentials(proxy) },
    agent: false,
    timeout: options.timeout,
    signal: options.signal,
  })
  connect.on('timeout', () => connect.destroy(new Error(`the proxy ${proxy.host} does not answer`)))
  connect.end()
  const [response, socket] = (await once(connect, 'connect')) as [http.IncomingMessage, Socket]
  if (response.statusCode === 200) return socket
  socket.destroy()
  throw new Interruption(`the proxy ${proxy.host} answered ${response.statusCode}`)
}

function chooseClient(url: URL): typeof http | typeof https {
  return url.protocol === 'https:' ? https : http
}

function credentials({ username, password }: URL): Record<string, string> {
  if (!username) return {}
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(pair).toString('base64')}` }
}
