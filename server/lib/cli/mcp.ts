import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { Api } from '../mcp/api.js'
import { stdioMcp } from '../mcp/stdio.js'
import type { ServerOptions } from '../options.js'
import { createServer, version } from '../server.js'

/** `torchreel-server mcp --server URL`: the tools use a server that runs elsewhere. */
export async function mcpOfServer(url: string, key: string | undefined, signal: AbortSignal): Promise<void> {
  const { origin } = new URL(url)
  const api = new Api(origin, fetch, key === undefined ? {} : { authorization: `Bearer ${key}` })
  await stdioMcp(api, version, (id) => api.contentUrl(id), signal)
}

/** `torchreel-server mcp`: the tools use a server in this process, which listens nowhere. */
export async function mcpOfOwnServer(options: ServerOptions, signal: AbortSignal): Promise<void> {
  const server = await createServer({ ...options, page: false }).catch((error: Error) => {
    if (!/belongs to another server/.test(error.message)) throw error
    throw new Error(
      `${error.message}. To use that server: torchreel-server mcp --server URL. Or choose a folder with --data`,
      { cause: error },
    )
  })
  try {
    const api = new Api('http://localhost', server.fetch)
    const fileOf = (id: string) => pathToFileURL(path.join(server.data, 'jobs', id, 'video.mp4')).href
    await stdioMcp(api, version, fileOf, signal)
  } finally {
    await server.close()
  }
}
