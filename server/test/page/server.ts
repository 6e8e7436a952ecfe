// A server as its command line starts it, with the model `shapes` and a folder of its own.
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { withoutChromium } from './browser.js'

/** The command of the workspace, or the file in TORCHREEL_SERVER: that of an installed package. */
const program = process.env.TORCHREEL_SERVER ?? join(import.meta.dirname, '../../../server/dist/cli/main.js')

export class PageServer {
  #folder: string | undefined
  readonly #settings: readonly string[]
  #child: ChildProcess | undefined
  address = ''

  constructor(settings: readonly string[] = []) {
    this.#settings = settings
  }

  /** Starts it, the second time on the same port. */
  async start(): Promise<void> {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'torchreel-page-'))
    const port = this.address === '' ? '0' : new URL(this.address).port
    const settings = [
      '--model',
      'shapes',
      '--port',
      port,
      '--data',
      join(this.#folder, 'data'),
      ...this.#settings,
    ]
    const child = spawn(process.execPath, [program, ...settings], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    this.address = await new Promise((resolve, reject) => {
      let said = ''
      const hear = (chunk: Buffer) => {
        said += chunk.toString()
        const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said)
        if (found) resolve(found[0])
      }
      child.stdout.on('data', hear)
      child.stderr.on('data', hear)
      child.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${said}`)))
    })
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }

  async remove(): Promise<void> {
    await this.kill()
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }

  /** What the API lists, newest first. */
  async list(): Promise<readonly ListedVideo[]> {
    const answer = await fetch(`${this.address}/v1/videos?limit=100`)
    assert.equal(answer.status, 200)
    return ((await answer.json()) as { data: readonly ListedVideo[] }).data
  }
}

export interface ListedVideo {
  readonly id: string
  readonly status: string
  readonly prompt: string
  readonly remixed_from_video_id: string | null
  readonly torchreel: {
    readonly state: string
    readonly seed: number
    readonly settings: Readonly<Record<string, unknown>>
  }
}

/** A server for the tests of a file. */
export function useServer(settings: readonly string[] = []): PageServer {
  const server = new PageServer(settings)
  before(() => (withoutChromium ? undefined : server.start()))
  after(() => server.remove())
  return server
}

/** A new key of the server's file of keys, as its command line prints it. */
export function newKey(file: string): string {
  const said = execFileSync(process.execPath, [program, '--keys', file, '--new-key', 'reader'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return said.trim().split(/\s+/).at(-1) ?? ''
}
