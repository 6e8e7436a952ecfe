import { createMcpHandler } from '@modelcontextprotocol/server'
import { Api } from './api.js'
import { readFields } from './fields.js'
import { createMcpServer } from './tools.js'

/** Headers of a caller that say who it is and how it came; the tools' requests carry them, too. */
const passedOn = ['authorization', 'cookie', 'host', 'x-request-id', 'traceparent']
/**
 * MCP over HTTP, without sessions: each request is complete.
 *
 * @param answer the server's own interface: the tools call it for the caller, with the caller's key
 * @param originOf the server as the caller sees it, for links
 */
export function httpMcp(answer, version, originOf) {
  const handler = createMcpHandler(async ({ requestInfo: request }) => {
    if (!request) throw new Error('MCP over HTTP needs the request')
    const headers = passedOn.flatMap((name) => {
      const value = request.headers.get(name)
      return value === null ? [] : [[name, value]]
    })
    const api = new Api(originOf(request), answer, Object.fromEntries(headers))
    return createMcpServer(api, { version, fields: await readFields(api), uriOf: (id) => api.contentUrl(id) })
  })
  return { answer: (request) => handler.fetch(request), close: () => handler.close() }
}
