import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

// A bucket that checks every signature as AWS describes it (Signature Version 4), with path-style addresses.

export interface TestBucket extends AsyncDisposable {
  readonly url: string
  /** Key to content. */
  readonly objects: Map<string, Buffer>
  /** How many of the next requests get an answer 500; Infinity: all. */
  failures: number
  /** Every request, such as `PUT videos/ID/NAME 200`. */
  readonly seen: string[]
}

export const credentials = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
}

export async function startBucket(): Promise<TestBucket> {
  const objects = new Map<string, Buffer>()
  const seen: string[] = []
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const body = Buffer.concat(parts)
    const url = new URL(request.url as string, `http://${request.headers.host}`)
    const key = url.pathname.replace('/bucket/', '')
    const answer = (status: number, headers: Record<string, string | number> = {}, content?: Buffer) => {
      seen.push(`${request.method} ${key} ${status}`)
      response.writeHead(status, { 'content-length': content?.length ?? 0, ...headers })
      response.end(request.method === 'HEAD' ? undefined : content)
    }
    if (bucket.failures > 0) {
      bucket.failures--
      return answer(500)
    }
    if (!isSigned(request, url, body)) return answer(403)
    if (request.method === 'PUT') {
      objects.set(key, body)
      return answer(200)
    }
    if (request.method === 'DELETE') {
      objects.delete(key)
      return answer(204)
    }
    const content = objects.get(key)
    if (!content) return answer(404)
    const headers = { etag: `"${createHash('md5').update(content).digest('hex')}"` }
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    if (start === undefined) return answer(200, { ...headers, 'content-length': content.length }, content)
    const part = content.subarray(Number(start), Number(end) + 1)
    answer(
      206,
      {
        ...headers,
        'content-range': `bytes ${start}-${end}/${content.length}`,
        'content-length': part.length,
      },
      part,
    )
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bucket: TestBucket = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/bucket`,
    ...{ objects, seen, failures: 0 },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
  return bucket
}

const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest('hex')
const hmac = (key: string | Buffer, data: string) => createHmac('sha256', key).update(data).digest()
const encode = (text: string) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)

/** In the header `authorization`, or in the query of an address that was signed beforehand. */
function isSigned(request: IncomingMessage, url: URL, body: Buffer): boolean {
  const header = /Credential=([^,]+), *SignedHeaders=([^,]+), *Signature=(\w+)/.exec(
    request.headers.authorization ?? '',
  )
  const query = url.searchParams
  const [credential, names, signature] = header
    ? [header[1], header[2], header[3]]
    : [query.get('X-Amz-Credential'), query.get('X-Amz-SignedHeaders'), query.get('X-Amz-Signature')]
  if (!credential || !names || !signature) return false
  const [id, date, region, service] = credential.split('/')
  const time = header ? (request.headers['x-amz-date'] as string) : (query.get('X-Amz-Date') as string)
  const stated = header ? (request.headers['x-amz-content-sha256'] as string) : 'UNSIGNED-PAYLOAD'
  if (id !== credentials.accessKeyId) return false
  if (stated !== 'UNSIGNED-PAYLOAD' && stated !== sha256(body)) return false
  const pairs = [...query].filter(([name]) => name !== 'X-Amz-Signature')
  const canonical = [
    request.method,
    url.pathname
      .split('/')
      .map((part) => encode(decodeURIComponent(part)))
      .join('/'),
    pairs
      .map(([name, value]) => `${encode(name)}=${encode(value)}`)
      .sort()
      .join('&'),
    ...names.split(';').map((name) => `${name}:${String(request.headers[name]).trim()}`),
    '',
    names,
    stated,
  ].join('\n')
  const scope = `${date}/${region}/${service}/aws4_request`
  let key = hmac(`AWS4${credentials.secretAccessKey}`, date as string)
  for (const part of [region, service, 'aws4_request']) key = hmac(key, part as string)
  return hmac(key, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${sha256(canonical)}`).toString('hex') === signature
}
