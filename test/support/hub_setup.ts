import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, afterEach, beforeEach } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type HubOptions, pullModel } from '#dist/hub/hub.js'
import { HubServer, type Misbehaviour } from './hub_server.js'

// A server and an empty cache for every test of the file that imports this.

export const root = new URL('../../../', import.meta.url)
export const checkpoint = fileURLToPath(new URL('test/fixtures/tiny/checkpoint', root))
const child = fileURLToPath(new URL('./hub_child.js', import.meta.url))
export const base = realpathSync(mkdtempSync(join(tmpdir(), 'torchreel-hub-')))
export const model = 'owner/tiny'
export const vae = 'vae/diffusion_pytorch_model.safetensors'
export const patience = { stallMs: 10_000, retryMs: 5, retries: 3 }
export const impatient = { patience: { ...patience, stallMs: 300 } }

const variables = [
  ...['HF_HOME', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'XDG_CACHE_HOME', 'HF_ENDPOINT', 'HF_HUB_OFFLINE'],
  ...['TRANSFORMERS_OFFLINE', 'HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_TOKEN_PATH'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'],
]
let count = 0
export let cache = ''
export let server: HubServer

beforeEach(async () => {
  for (const name of variables) delete process.env[name]
  process.env.HF_HOME = join(base, `${++count}`)
  cache = join(process.env.HF_HOME, 'hub')
  server = await HubServer.start(checkpoint)
  process.env.HF_ENDPOINT = `http://127.0.0.1:${server.port}`
})
afterEach(() => server.close())
after(() => rmSync(base, { recursive: true, force: true }))

export function pull(options: HubOptions = {}) {
  return pullModel(model, { patience, ...options })
}

export const repository = () => join(cache, 'models--owner--tiny')

/** Every file and link below the model's folder. */
export function inCache(): string[] {
  if (!existsSync(repository())) return []
  const names = readdirSync(repository(), { recursive: true, encoding: 'utf8' })
  return names.filter((name) => !statSync(join(repository(), name), { throwIfNoEntry: false })?.isDirectory())
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}

/** The sha256 of the file that is served under a name. */
export function blobOf(name: string): string {
  return join(repository(), 'blobs', sha256(server.files.get(name) as Buffer))
}

/** Makes one file's requests misbehave, the first `times` times. */
export function at(name: string, misbehaviour: Misbehaviour, times = Number.POSITIVE_INFINITY): void {
  let left = times
  server.misbehave = (request, response, file) => {
    if (file.name !== name || left <= 0) return false
    left--
    return misbehaviour(request, response, file) ?? true
  }
}

/** Asserts that a pull fails with this code, and leaves neither the wrong file under its name nor the model's reference. */
export async function fails(code: string, message: RegExp, options: HubOptions = {}) {
  await assert.rejects(pull(options), (error: Error & { code?: string }) => {
    assert.equal(error.code, code, error.stack)
    assert.match(error.message, message)
    return true
  })
  assert.ok(!existsSync(blobOf(vae)))
  assert.ok(!inCache().some((name) => name.startsWith('refs/') || name.endsWith(vae)))
}

/** Asserts that a pull succeeds and that every file equals the served one. */
export async function succeeds(options: HubOptions = {}): Promise<string> {
  const { folder } = await pull(options)
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => statSync(join(folder, name)).isFile())
  assert.ok(files.length >= 12)
  for (const name of files)
    assert.ok(readFileSync(join(folder, name)).equals(server.files.get(name) as Buffer), name)
  assert.deepEqual(
    inCache().filter((name) => name.includes('torchreel') || name.endsWith('.tmp')),
    [],
  )
  return folder
}

export function run(...parameters: string[]) {
  const started = spawn(process.execPath, [child, ...parameters], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = Promise.all([once(started, 'close'), text(started.stdout), text(started.stderr)])
  return { process: started, ended: ended.then(([[code], stdout, stderr]) => ({ code, stdout, stderr })) }
}
