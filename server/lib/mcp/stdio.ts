import { once } from 'node:events'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { type Answer, Api, closedAnswer } from './api.js'
import { argumentsSchema } from './fields.js'
import { createMcpServer } from './tools.js'

export interface StdioOptions {
  /** The server that the tools use, without `/v1`. */
  readonly origin: string
  readonly answer: Answer
  /** Its key. */
  readonly key?: string | undefined
  readonly version: string
  /** Where a finished video's file is. */
  readonly uriOf: (id: string) => string
  readonly signal: AbortSignal
}

/**
 * MCP over this process's stdin and stdout, until the client closes stdin or the signal aborts. Nothing else may write to
 * stdout meanwhile.
 */
export async function stdioMcp({ origin, answer, key, version, uriOf, signal }: StdioOptions): Promise<void> {
  let isClosed = false
  const whileOpen: Answer = async (request) => (isClosed ? closedAnswer() : answer(request))
  const api = new Api(origin, whileOpen, key === undefined ? {} : { authorization: `Bearer ${key}` })
  const fields = await argumentsSchema(api)
  const closed = once(process.stdin, 'close', { signal })
  const connection = serveStdio(() => createMcpServer(api, { version, fields, uriOf }), {
    onerror: (error) => process.stderr.write(`MCP: ${error.message}\n`),
  })
  await closed.catch(() => {})
  isClosed = true
  await connection.close()
}
