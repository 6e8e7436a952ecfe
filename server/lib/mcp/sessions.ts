import { createHash, randomUUID } from 'node:crypto'
import { type McpServer, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server'

/** Most sessions at a time; the one that was used longest ago makes room. */
const mostSessions = 256
/** Milliseconds without a request, after which a session ends. */
const idleTime = 30 * 60_000

interface Session {
  readonly transport: WebStandardStreamableHTTPServerTransport
  /** sha256 of what the caller was let in with: a session serves nobody else. */
  readonly caller: string
  usedAt: number
}

/**
 * Sessions of the protocol's versions before 2026. They send a cancel as a request of its own, which only finds its call in the
 * same session.
 */
export class Sessions {
  readonly #open: (request: Request) => Promise<McpServer>
  readonly #maxBytes: number
  readonly #sessions = new Map<string, Session>()

  constructor(open: (request: Request) => Promise<McpServer>, maxBytes: number) {
    this.#open = open
    this.#maxBytes = maxBytes
  }

  async answer(request: Request): Promise<Response> {
    // No stream beside the calls: nothing is told that no call asked for.
    if (request.method === 'GET')
      return new Response(null, { status: 405, headers: { allow: 'POST, DELETE' } })
    this.#endIdle()
    const id = request.headers.get('mcp-session-id')
    if (id === null) {
      this.#makeRoom()
      return this.#start(request)
    }
    const session = this.#sessions.get(id)
    if (session?.caller !== callerOf(request)) return unknownSession()
    session.usedAt = performance.now()
    return session.transport.handleRequest(request)
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.#sessions.keys(), (id) => this.#end(id)))
  }

  /** The transport refuses a first request that is not `initialize`; then there is no session. */
  async #start(request: Request): Promise<Response> {
    const caller = callerOf(request)
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      maxRequestBodySize: this.#maxBytes,
      onsessioninitialized: (id) => {
        this.#sessions.set(id, { transport, caller, usedAt: performance.now() })
      },
      onsessionclosed: (id) => {
        this.#sessions.delete(id)
      },
    })
    const server = await this.#open(request)
    await server.connect(transport)
    return transport.handleRequest(request)
  }

  #endIdle(): void {
    const earliest = performance.now() - idleTime
    for (const [id, { usedAt }] of this.#sessions) if (usedAt < earliest) void this.#end(id)
  }

  /** For one more session. */
  #makeRoom(): void {
    const byUse = Array.from(this.#sessions).sort(([, one], [, other]) => one.usedAt - other.usedAt)
    for (const [id] of byUse.slice(0, Math.max(0, byUse.length - mostSessions + 1))) void this.#end(id)
  }

  async #end(id: string): Promise<void> {
    const session = this.#sessions.get(id)
    this.#sessions.delete(id)
    await session?.transport.close().catch(() => {})
  }
}

function callerOf({ headers }: Request): string {
  const shown = JSON.stringify([headers.get('authorization'), headers.get('cookie')])
  return createHash('sha256').update(shown).digest('base64')
}

/** The client begins a new one. */
function unknownSession(): Response {
  const error = { code: -32001, message: 'this session has ended, or was never here' }
  return Response.json({ jsonrpc: '2.0', error, id: null }, { status: 404 })
}
