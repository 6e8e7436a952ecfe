import { once } from 'node:events'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import type { Api } from './api.js'
import { argumentsSchema } from './fields.js'
import { createMcpServer } from './tools.js'

/**
 * MCP over this process's stdin and stdout, until the client closes stdin or the signal aborts. Nothing else may write to
 * stdout meanwhile.
 *
 * @param uriOf where a finished video's file is
 */
export async function stdioMcp(
  api: Api,
  version: string,
  uriOf: (id: string) => string,
  signal?: AbortSignal,
): Promise<void> {
  const fields = await argumentsSchema(api)
  const closed = once(process.stdin, 'close', { signal })
  const connection = serveStdio(() => createMcpServer(api, { version, fields, uriOf }), {
    onerror: (error) => console.error(`MCP: ${error.message}`),
  })
  await closed.catch(() => {})
  await connection.close()
}
