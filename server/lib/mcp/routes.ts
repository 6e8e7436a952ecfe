import { createMcpHandler, isLegacyRequest, type McpServer } from '@modelcontextprotocol/server'
import type { Routes } from '../http/app.js'
import { type Answer, Api, closedAnswer } from './api.js'
import { argumentsSchema } from './fields.js'
import { Sessions } from './sessions.js'
import { createMcpServer } from './tools.js'

/** Headers that say who calls and how; the tools' requests carry them, too. */
const passedOn = ['authorization', 'cookie', 'host', 'traceparent']

export interface McpOptions {
  /** The server's own interface: the tools call it for the caller, with the caller's key. */
  readonly answer: Answer
  readonly version: string
  /** The server's address as the caller sees it, for links. */
  readonly originOf: (request: Request) => string
  /** Most bytes of a request. */
  readonly maxBytes: number
}

/** MCP over HTTP: with the protocol of 2026, where each request is complete, and with its sessions of before. */
export class McpOverHttp {
  readonly #options: McpOptions
  readonly #handler
  readonly #sessions
  #isClosed = false

  constructor(options: McpOptions) {
    this.#options = options
    const { maxBytes } = options
    this.#handler = createMcpHandler(
      ({ requestInfo }) => this.#open(requestInfo ?? new Request('http://localhost')),
      { legacy: 'reject', maxRequestBodySize: maxBytes },
    )
    this.#sessions = new Sessions((request) => this.#open(request), maxBytes)
  }

  readonly routes: Routes = (app) => {
    app.all('/mcp', async (c) => {
      const request = c.req.raw
      const { maxBytes: maxRequestBodySize } = this.#options
      const isLegacy = await isLegacyRequest(request, undefined, { maxRequestBodySize })
      return isLegacy ? this.#sessions.answer(request) : this.#handler.fetch(request)
    })
  }

  /** Ends all calls, not their videos. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([this.#handler.close(), this.#sessions.close()])
  }

  async #open(request: Request): Promise<McpServer> {
    const { answer, version, originOf } = this.#options
    const headers = passedOn.flatMap((name) => {
      const value = request.headers.get(name)
      return value === null ? [] : [[name, value] as const]
    })
    const whileOpen: Answer = async (asked) => (this.#isClosed ? closedAnswer() : answer(asked))
    const api = new Api(originOf(request), whileOpen, Object.fromEntries(headers))
    const fields = await argumentsSchema(api)
    return createMcpServer(api, { version, fields, uriOf: (id) => api.contentUrl(id) })
  }
}
