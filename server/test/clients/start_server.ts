import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { createServer, type ServerOptions } from 'torchreel-server'

export interface StartedServer {
  /** Without `/v1`. */
  readonly url: string
  stop(): Promise<void>
}

/** A server with `shapes` in a folder of its own, ready to make videos. */
export async function startServer(options: ServerOptions = {}): Promise<StartedServer> {
  const data = mkdtempSync(path.join(tmpdir(), 'torchreel-clients-'))
  const server = await createServer({ data, port: 0, logger: pino({ level: 'silent' }), ...options })
  const url = await server.listen()
  while (!(await fetch(`${url}/readyz`)).ok) await new Promise((resolve) => setTimeout(resolve, 50))
  return {
    url,
    stop: async () => {
      await server.close()
      rmSync(data, { recursive: true })
    },
  }
}
