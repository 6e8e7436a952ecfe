import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { packTar } from 'modern-tar/fs'
import type { NpmPackage } from '#dist/setup/npm_package.js'
import { sendFile, sendPart } from './hub_server.js'

/** A package of npm's, with its tarball. */
export interface PackedPackage extends NpmPackage {
  readonly tarball: Buffer
}

/** Packs files into a tarball as npm does. */
export async function packPackage(
  name: string,
  files: Record<string, Buffer | string>,
): Promise<PackedPackage> {
  const sources = Object.entries(files).map(([file, content]) => ({
    ...{ type: 'content' as const, target: `package/${file}`, content: Buffer.from(content), mode: 0o755 },
  }))
  const tarball = gzipSync(await buffer(packTar(sources)))
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  return { name, version: '1.0.0', bytes: tarball.length, integrity, tarball }
}

/** The part of an npm registry that a set-up talks to, on this machine. */
export class Registry implements Disposable {
  /** The ranges of the requests for tarballs. */
  readonly ranges: (string | undefined)[] = []
  /** Break a tarball off after so many bytes. */
  cutAfter: number | undefined
  readonly #server: http.Server

  private constructor(packages: readonly PackedPackage[]) {
    this.#server = http.createServer((request, response) => {
      const url = request.url as string
      const metadata = packages.find(({ name, version }) => url === `/${name.replace('/', '%2f')}/${version}`)
      const tarball = packages.find(({ name }) => url === `/${name}.tgz`)?.tarball
      if (metadata) {
        const { name, integrity } = metadata
        response.end(JSON.stringify({ dist: { tarball: `${this.url}/${name}.tgz`, integrity } }))
      } else if (tarball) {
        const { range } = request.headers
        const first = Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0)
        this.ranges.push(range)
        if (this.cutAfter === undefined) sendFile(response, tarball, first)
        else sendPart(response, tarball, first, this.cutAfter)
      } else response.writeHead(404).end()
    })
  }

  static async start(packages: readonly PackedPackage[]): Promise<Registry> {
    const registry = new Registry(packages)
    registry.#server.listen(0, '127.0.0.1')
    await once(registry.#server, 'listening')
    return registry
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  [Symbol.dispose](): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}
