import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { stdioMcp } from '../mcp/stdio.js'
import type { ServerOptions } from '../options.js'
import { createServer, version } from '../server.js'

/** `torchreel-server mcp --server URL`: the tools use a server that runs elsewhere. */
export async function mcpOfServer(url: string, key: string | undefined, signal: AbortSignal): Promise<void> {
  const { origin } = new URL(url)
  const uriOf = (id: string) => `${origin}/v1/videos/${id}/content`
  await stdioMcp({ origin, answer: fetch, key, version, uriOf, signal })
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
  const uriOf = (id: string) => pathToFileURL(path.join(server.data, 'jobs', id, 'video.mp4')).href
  try {
    await stdioMcp({ origin: 'http://localhost', answer: server.fetch, version, uriOf, signal })
  } finally {
    await server.close()
  }
}
