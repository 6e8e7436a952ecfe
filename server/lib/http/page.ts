import { createReadStream, existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Routes } from './app.js'

const folder = fileURLToPath(new URL('../web/', import.meta.url))

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.json': 'application/json',
  '.woff2': 'font/woff2',
}

/** The page's files, each under its own path: names from a list, so that no request can name another file. */
export async function pageRoutes(isShown: boolean): Promise<Routes> {
  const names = isShown && existsSync(folder) ? await readdir(folder, { recursive: true }) : []
  const files = names.filter((name) => Object.hasOwn(types, path.extname(name)))
  return (app) => {
    for (const name of files) {
      const route = name === 'index.html' ? '/' : `/${name}`
      const isHashed = name.startsWith('assets/')
      app.get(route, async (c) => {
        const file = path.join(folder, name)
        const { size } = await stat(file)
        c.header('content-type', types[path.extname(name)] as string)
        c.header('content-length', String(size))
        c.header('cache-control', isHashed ? 'public, max-age=31536000, immutable' : 'no-cache')
        if (c.req.raw.method === 'HEAD') return c.body(null)
        return c.body(Readable.toWeb(createReadStream(file)) as ReadableStream)
      })
    }
    if (!files.includes('index.html'))
      app.get('/', (c) =>
        c.text('torchreel-server runs. Its API is at /v1/videos, described at /openapi.json.\n'),
      )
  }
}
