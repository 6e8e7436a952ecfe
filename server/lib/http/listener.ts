import type { Server as HttpServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'

/** Milliseconds that requests have for their answers when the server ends. */
const grace = 10_000

/** Listens on a port, with limits of time, and ends without waiting for connections on which nothing happens. */
export class Listener {
  readonly address: string
  readonly #http: HttpServer
  /** How many requests each connection waits for. Browsers open some before they have any. */
  readonly #connections = new Map<Socket, number>()

  private constructor(http: HttpServer, host: string) {
    this.#http = http
    const { port } = http.address() as AddressInfo
    this.address = `http://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`
    http.on('connection', (socket) => {
      this.#connections.set(socket, 0)
      socket.once('close', () => this.#connections.delete(socket))
    })
    http.on('request', ({ socket }, answer) => {
      const add = (count: number) => {
        const before = this.#connections.get(socket)
        if (before !== undefined) this.#connections.set(socket, before + count)
      }
      add(1)
      answer.once('close', () => add(-1))
    })
  }

  /** @throws Error for a port that is taken */
  static async open(
    fetch: (request: Request, env: object) => Response | Promise<Response>,
    host: string,
    port: number,
    requestMs: number,
  ): Promise<Listener> {
    const http = createAdaptorServer({
      fetch,
      serverOptions: {
        headersTimeout: Math.min(60_000, requestMs),
        requestTimeout: requestMs,
        keepAliveTimeout: 65_000,
        connectionsCheckingInterval: Math.min(30_000, requestMs),
      },
    }) as HttpServer
    await new Promise<void>((resolve, reject) => {
      http.once('error', (error: NodeJS.ErrnoException) =>
        reject(
          error.code === 'EADDRINUSE'
            ? new Error(`port ${port} of ${host} is in use; take another: --port N`)
            : error,
        ),
      )
      http.listen(port, host.replace(/^\[|\]$/g, ''), resolve)
    })
    return new Listener(http, host)
  }

  /** Takes no more requests, and waits for the answers of those that came. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#http.close(resolve))
    const endIdle = () => {
      for (const [socket, waiting] of this.#connections) if (waiting === 0) socket.destroy()
    }
    endIdle()
    const again = setInterval(endIdle, 50)
    const late = setTimeout(() => this.#http.closeAllConnections(), grace)
    await closed
    clearInterval(again)
    clearTimeout(late)
  }
}
