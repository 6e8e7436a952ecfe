// Test runners and sandboxes run code in a vm context, whose classes are not those of Node's own modules and addons.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import vm from 'node:vm'
import { DDIMScheduler, Generator, runProgram, TextToVideoPipeline } from 'torchreel'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-realms-'))
after(() => rmSync(folder, { recursive: true }))
const small = { steps: 2, frames: 2, width: 32, height: 32, seed: 1 }

describe('values of another realm', () => {
  const other = vm.createContext({ URL: undefined })
  const inOther = <T>(code: string, values: object = {}): T => {
    Object.assign(other, values)
    return vm.runInContext(code, other) as T
  }

  test('latents, embeddings, frames and programs', async () => {
    await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const first = await pipeline.generate('a', { ...small, returnLatents: true })
    const latents = inOther<never>('({ data: new Float32Array(data), shape: [...shape] })', first.latents)
    assert.ok(!((latents as { data: unknown }).data instanceof Float32Array))
    await pipeline.generate('a', { ...small, latents })
    const embeddings = await pipeline.encodePrompt('a')
    const promptEmbeds = inOther<never>('({ data: new Float32Array(data), shape: [...shape] })', embeddings)
    await pipeline.generate(undefined, { ...small, guidanceScale: 1, promptEmbeds })
    const video = inOther<never>('[{ width: 32, height: 32, data: new Uint8Array(3072) }]')
    await pipeline.generate('a', { ...small, frames: 1, video })
    const program = new DDIMScheduler().program(2)
    const foreign = inOther<typeof program>(
      '({ ...program, code: new Float64Array(program.code), timesteps: new Float64Array(program.timesteps) })',
      { program },
    )
    const scheduler = inOther<never>('({ name: "mine", program: () => foreign })', { foreign })
    await pipeline.generate('a', { ...small, scheduler })
    const zeros = inOther<() => Float32Array>('() => new Float32Array(4)')
    runProgram(foreign, { data: new Float32Array(4), shape: [1, 4, 1, 1, 1] }, zeros, new Generator(1))
  })

  test('signals and URLs', async () => {
    await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const signal = inOther<AbortSignal>(`
      const listeners = []
      ;({ aborted: false, reason: undefined, addEventListener: (_, run) => listeners.push(run), removeEventListener() {},
        abort() { this.aborted = true; this.reason = new Error('enough'); for (const run of listeners) run() } })`)
    const job = pipeline.generate('a', {
      ...small,
      steps: 500,
      signal,
      onProgress: () => (signal as never as { abort(): void }).abort(),
    })
    await assert.rejects(job, { message: 'enough' })
    const { href, protocol } = pathToFileURL(path.join(folder, 'a.gif'))
    const output = inOther<URL>('({ href, protocol })', { href, protocol })
    const { file } = await pipeline.generate('a', { ...small, output })
    assert.equal(file, path.join(folder, 'a.gif'))
    await pipeline.generate('a', { ...small, video: output })
  })
})

test('torchreel in a vm context, as test runners load it, takes its own latents and embeddings', async () => {
  const script = `
    import vm from 'node:vm'
    import { readFileSync } from 'node:fs'
    import { pathToFileURL } from 'node:url'
    // Jest's way: modules of the project in a context, Node's own modules from outside.
    const context = vm.createContext({ process, Buffer, URL, AbortSignal, AbortController, performance, setTimeout, clearTimeout, console, queueMicrotask })
    const modules = new Map()
    const load = async (specifier, parent) => {
      if (specifier.startsWith('node:')) {
        const namespace = await import(specifier)
        return new vm.SyntheticModule(Object.keys(namespace), function () { for (const key in namespace) this.setExport(key, namespace[key]) }, { context })
      }
      const url = specifier.startsWith('.') ? new URL(specifier, parent).href : import.meta.resolve(specifier)
      if (!modules.has(url)) modules.set(url, new vm.SourceTextModule(readFileSync(new URL(url), 'utf8'), {
        context, identifier: url, initializeImportMeta: (meta) => { meta.url = url },
        importModuleDynamically: async (name) => { const module = await load(name, url); await ready(module); return module },
      }))
      return modules.get(url)
    }
    const ready = async (module) => {
      if (module.status === 'unlinked') await module.link((name, parent) => load(name, parent.identifier))
      await module.evaluate()
    }
    const module = await load(pathToFileURL(${JSON.stringify(`${repository}dist/index.js`)}).href)
    await ready(module)
    const { TextToVideoPipeline } = module.namespace
    const pipeline = await TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)})
    const small = ${JSON.stringify(small)}
    const first = await pipeline.generate('a', { ...small, returnLatents: true })
    await pipeline.generate('a', { ...small, latents: first.latents })
    await pipeline.generate(undefined, { ...small, guidanceScale: 1, promptEmbeds: await pipeline.encodePrompt('a') })
    await pipeline.generate('a', { ...small, video: first })
    await first.save(${JSON.stringify(path.join(folder, 'b.apng'))})
    const code = (error) => [error.name, error.code].join(' ')
    console.log(await first.save('/nowhere/b.apng').catch(code))
    console.log(await pipeline.generate('a', { ...small, signal: AbortSignal.abort(new Error('no')) }).catch((e) => e.message))
    await pipeline.dispose()`
  const { stdout, stderr } = await startNode([
    ...['--experimental-vm-modules', '--no-warnings', '--input-type=module', '-e', script],
  ]).ended
  assert.equal(stderr, '')
  assert.equal(stdout, 'TorchreelError ERR_OUTPUT_WRITE\nno\n')
})
