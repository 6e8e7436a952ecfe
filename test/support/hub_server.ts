import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'

/** May answer a request for a file instead of the server. Returns whether it did. */
export type Misbehaviour = (
  request: http.IncomingMessage,
  response: http.ServerResponse,
  file: { name: string; content: Buffer; first: number },
) => boolean | undefined

export interface ServedRequest {
  readonly path: string
  readonly range: string | undefined
  readonly token: string | undefined
  readonly host: string | undefined
}

/** A local server with the part of the Hugging Face Hub that downloads use, for one model. */
export class HubServer {
  commit = 'c'.repeat(40)
  readonly files = new Map<string, Buffer>()
  /** Extra fields in the model's description. */
  description: Record<string, unknown> = { cardData: { license: 'cc-by-nc-4.0' } }
  /** Replaces the description of the files. */
  siblings: unknown[] | undefined
  /** Whether it answers with the tree of a commit. */
  hasTree = false
  /** Whether it tells files' hashes as ETags. */
  hasEtags = false
  /** Replaces the answer to a request for the model's description. */
  describe: ((response: http.ServerResponse) => void) | undefined
  misbehave: Misbehaviour = () => false
  readonly requests: ServedRequest[] = []
  readonly model = 'owner/tiny'
  readonly #server: http.Server
  readonly #sockets = new Set<Socket>()

  private constructor(tls: boolean) {
    const handle = (request: http.IncomingMessage, response: http.ServerResponse) =>
      this.#handle(request, response)
    const fixtures = new URL('../../../test/fixtures/tls/', import.meta.url)
    const pem = (name: string) => readFileSync(new URL(name, fixtures))
    this.#server = tls
      ? https.createServer({ key: pem('key.pem'), cert: pem('cert.pem') }, handle)
      : http.createServer(handle)
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
  }

  /** @param folder the checkpoint to serve */
  static async start(folder?: string, tls = false): Promise<HubServer> {
    const server = new HubServer(tls)
    for (const name of folder ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : []) {
      const file = join(folder as string, name)
      if (statSync(file).isFile()) server.files.set(name, readFileSync(file))
    }
    server.#server.listen(0, '127.0.0.1')
    await once(server.#server, 'listening')
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** The requests for files' contents. */
  get downloads(): ServedRequest[] {
    return this.requests.filter((request) => request.path.includes('/resolve/'))
  }

  /** The names of the requested files, in order. */
  get asked(): string[] {
    return this.downloads.map((request) => request.path.split(`/resolve/${this.commit}/`)[1] as string)
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #handle(request: http.IncomingMessage, response: http.ServerResponse): void {
    const path = decodeURIComponent((request.url as string).split('?')[0] as string)
    const { range, authorization, host } = request.headers
    this.requests.push({ path, range, token: authorization?.replace('Bearer ', ''), host })
    if (path.startsWith('/api/')) {
      if (path.includes('/tree/')) {
        response.writeHead(this.hasTree ? 200 : 404).end(JSON.stringify(this.#tree()))
      } else if (this.describe) this.describe(response)
      else response.end(JSON.stringify(this.#description()))
      return
    }
    const name = /\/resolve\/[^/]+\/(.*)/.exec(path)?.[1] ?? ''
    const content = this.files.get(name)
    if (!content) {
      response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end()
      return
    }
    if (this.hasEtags) response.setHeader('etag', `"${describeFile(name, content).hash}"`)
    const first = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0)
    if (this.misbehave(request, response, { name, content, first })) return
    sendFile(response, content, first)
  }

  #tree(): object[] {
    return [...this.files].map(([path, content]) => {
      const { blob, sha256, isLarge } = describeFile(path, content)
      const lfs = isLarge && { lfs: { oid: sha256, size: content.length } }
      return { type: 'file', path, size: content.length, oid: blob, ...lfs }
    })
  }

  #description(): object {
    const siblings = [...this.files].map(([rfilename, content]) => {
      const { blob, sha256, isLarge } = describeFile(rfilename, content)
      const lfs = isLarge && { lfs: { sha256, size: content.length, pointerSize: 130 } }
      return { rfilename, size: content.length, blobId: blob, ...lfs }
    })
    return { id: this.model, sha: this.commit, siblings: this.siblings ?? siblings, ...this.description }
  }
}

/** What Hugging Face knows of a file. Weights are in LFS. */
function describeFile(name: string, content: Buffer) {
  const blob = createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
  const sha256 = createHash('sha256').update(content).digest('hex')
  const isLarge = name.endsWith('.safetensors')
  return { blob, sha256, isLarge, hash: isLarge ? sha256 : blob }
}

/** The correct answer, starting at a byte. */
export function sendFile(response: http.ServerResponse, content: Buffer, first = 0): void {
  const rest = content.subarray(first)
  response.writeHead(first > 0 ? 206 : 200, {
    'content-length': rest.length,
    ...(first > 0 && { 'content-range': `bytes ${first}-${content.length - 1}/${content.length}` }),
  })
  response.end(rest)
}

/** The headers of the correct answer and only the first bytes of its body. The connection stays open. */
export function sendPart(
  response: http.ServerResponse,
  content: Buffer,
  first: number,
  bytes: number,
  sent?: () => void,
): void {
  response.writeHead(first > 0 ? 206 : 200, {
    'content-length': content.length - first,
    ...(first > 0 && { 'content-range': `bytes ${first}-${content.length - 1}/${content.length}` }),
  })
  response.write(content.subarray(first, first + bytes), sent)
}
