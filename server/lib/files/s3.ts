import { createWriteStream } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { setTimeout as wait } from 'node:timers/promises'
import { AwsClient } from 'aws4fetch'
import {
  allFiles,
  type ByteRange,
  type FileFacts,
  type FileName,
  type Files,
  fileTypes,
  type OpenedFile,
} from './files.js'

export interface S3Options {
  /** The bucket, and the beginning of all keys: `https://HOST/BUCKET/BEGINNING`. */
  readonly url: string
  /** From the variables `AWS_ACCESS_KEY_ID` and so on; never from a job. */
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
  /** @defaultValue us-east-1 */
  readonly region?: string | undefined
}

/** Tries of a request that the storage answers with an error of its own, and the pause before the second (ms). */
const tries = 3
const pause = 200
/** How long a request may take without a byte (ms). */
const patience = 60_000

/** The files of jobs in a bucket, one object each: `BEGINNING/videos/ID/NAME`. An object is whole or not there. */
export class S3Files implements Files {
  readonly #client: AwsClient
  readonly #base: string

  /** @throws Error if the address or the keys are missing */
  constructor({ url, accessKeyId, secretAccessKey, sessionToken, region = 'us-east-1' }: S3Options) {
    const { protocol, pathname, origin } = new URL(url)
    if (!/^https?:$/.test(protocol) || pathname === '/')
      throw new Error(`the address of the bucket must be https://HOST/BUCKET, got ${origin}${pathname}`)
    if (!accessKeyId || !secretAccessKey)
      throw new Error('set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the bucket')
    this.#base = `${origin}${pathname.replace(/\/+$/, '')}`
    this.#client = new AwsClient({
      ...{ accessKeyId, secretAccessKey, region, service: 's3', retries: 0 },
      ...(sessionToken && { sessionToken }),
    })
  }

  async put(id: string, name: FileName, content: { readonly path: string } | Buffer): Promise<void> {
    // A clip has a few MB. As one body with a length, it needs no upload in parts.
    const body = Buffer.isBuffer(content) ? content : await readFile(content.path)
    await this.#send(id, name, { method: 'PUT', body, headers: { 'content-type': fileTypes[name] } })
    if (!Buffer.isBuffer(content)) await rm(content.path)
  }

  async facts(id: string, name: FileName): Promise<FileFacts | undefined> {
    const response = await this.#send(id, name, { method: 'HEAD' })
    return response && factsOf(response, name, Number(response.headers.get('content-length')))
  }

  async open(id: string, name: FileName, range?: ByteRange): Promise<OpenedFile | undefined> {
    const headers: Record<string, string> = range ? { range: `bytes=${range.start}-${range.end}` } : {}
    const response = await this.#send(id, name, { headers })
    if (!response?.body) return undefined
    const whole = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]
    const size = Number(whole ?? response.headers.get('content-length'))
    return { ...factsOf(response, name, size), stream: Readable.fromWeb(response.body as ReadableStream) }
  }

  async fetch(id: string, name: FileName, path: string): Promise<boolean> {
    const opened = await this.open(id, name)
    if (!opened) return false
    try {
      await pipeline(opened.stream, createWriteStream(path, { flags: 'wx' }))
    } catch (error) {
      await rm(path, { force: true })
      throw error
    }
    return true
  }

  async link(id: string, name: FileName, seconds: number, download: string | undefined): Promise<string> {
    const url = new URL(this.#address(id, name))
    url.searchParams.set('X-Amz-Expires', `${seconds}`)
    url.searchParams.set('response-content-type', fileTypes[name])
    if (download) url.searchParams.set('response-content-disposition', `attachment; filename="${download}"`)
    return (await this.#client.sign(url, { aws: { signQuery: true } })).url
  }

  async remove(id: string, names: readonly FileName[] = allFiles): Promise<void> {
    await Promise.all(names.map((name) => this.#send(id, name, { method: 'DELETE' })))
  }

  async ready(): Promise<void> {
    // Any answer about an object that is not there shows that the address, the keys and the bucket are right.
    await this.#send('ready', 'result.json', { method: 'HEAD' })
  }

  #address(id: string, name: FileName): string {
    return `${this.#base}/videos/${id}/${name}`
  }

  /** @returns undefined if there is no such object */
  async #send(id: string, name: FileName, init: RequestInit): Promise<Response | undefined> {
    for (let attempt = 1; ; attempt++) {
      const again = attempt < tries
      try {
        const response = await this.#client.fetch(this.#address(id, name), {
          ...{ ...init, signal: AbortSignal.timeout(patience), redirect: 'error' },
        })
        if (response.ok) return response
        await response.body?.cancel()
        if (response.status === 404) return undefined
        const failed = new Error(
          `the storage answered ${init.method ?? 'GET'} ${name} with ${response.status}`,
        )
        if (!again || (response.status < 500 && response.status !== 429)) throw new Refused(failed.message)
      } catch (error) {
        if (!again || error instanceof Refused) throw error
      }
      await wait(pause * attempt)
    }
  }
}

/** The storage's last word. */
class Refused extends Error {}

const factsOf = ({ headers }: Response, name: FileName, size: number): FileFacts => ({
  size,
  etag: headers.get('etag') ?? `"${size}"`,
  type: fileTypes[name],
})
