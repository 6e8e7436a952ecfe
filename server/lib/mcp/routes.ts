import { createMcpHandler } from '@modelcontextprotocol/server'
import type { Routes } from '../http/app.js'
import { type Answer, Api } from './api.js'
import { argumentsSchema } from './fields.js'
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

/** MCP over HTTP, without sessions: each request is complete. */
export function mcpRoutes({ answer, version, originOf, maxBytes }: McpOptions): Routes {
  const handler = createMcpHandler(
    async ({ requestInfo: request }) => {
      if (!request) throw new Error('MCP over HTTP needs the request')
      const headers = passedOn.flatMap((name) => {
        const value = request.headers.get(name)
        return value === null ? [] : [[name, value] as const]
      })
      const api = new Api(originOf(request), answer, Object.fromEntries(headers))
      const fields = await argumentsSchema(api)
      return createMcpServer(api, { version, fields, uriOf: (id) => api.contentUrl(id) })
    },
    { maxRequestBodySize: maxBytes },
  )
  return (app) => {
    app.all('/mcp', (c) => handler.fetch(c.req.raw))
  }
}
