// The addon's own functions, given what JavaScript never gives them.
import assert from 'node:assert/strict'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { loadNative } from '#dist/addon/load.js'
import { NativePipeline } from '#dist/addon/native_pipeline.js'
import { readCheckpoint } from '#dist/checkpoint/checkpoint.js'
import { findLibtorch, librariesOf } from '#dist/machine/libtorch.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-handles-'))
after(() => rmSync(folder, { recursive: true }))

type Functions = Record<string, (...parameters: unknown[]) => unknown>
const addon = loadNative().addon as unknown as Functions
const call = (name: string, ...parameters: unknown[]) => addon[name]?.(...parameters)
const pipeline = call('createPipeline')
const generator = call('createGenerator', 1)
const refused = { code: 'ERR_INVALID_ARGUMENT' }

const rests: Record<string, unknown[]> = {
  openPipeline: [1, {}],
  generate: [1, {}, () => {}],
  encode: [1, 1, { tokens: new Int32Array(77), clipSkip: 0 }, () => {}],
  memory: [],
  adapt: [1, { updates: [], rows: [] }, { updates: [], rows: [] }],
  cancel: [1],
  closePipeline: [],
  randn: [[2]],
}

for (const [name, rest] of Object.entries(rests)) {
  test(`[wrong-handles] ${name} of what is no handle of its kind`, () => {
    const other = name === 'randn' ? pipeline : generator
    for (const value of [undefined, null, 0, 'x', {}, [], () => {}, Symbol('x'), new Uint8Array(64), other]) {
      assert.throws(() => call(name, value, ...rest), refused)
    }
  })
}

test('[wrong-handles] arguments of every wrong kind', () => {
  for (const name of ['openPipeline', 'generate', 'encode', 'adapt', 'cancel']) {
    for (const value of [undefined, null, 1.5, Number.NaN, 2 ** 60, 'x', {}, []]) {
      assert.throws(
        () => call(name, pipeline, value, value, value, value),
        refused,
        `${name} ${String(value)}`,
      )
    }
  }
  for (const name of ['load', 'checkDevice', 'createGenerator', 'runProgram']) {
    assert.throws(() => call(name), refused, name)
  }
})

test('[wrong-handles] a job on a pipeline that was never opened, and on one that is closed', async () => {
  const closed = call('createPipeline')
  const adapt = (handle: unknown) =>
    call('adapt', handle, 7, { updates: [], rows: [] }, { updates: [], rows: [] })
  await assert.rejects(adapt(closed) as Promise<void>, { code: 'ERR_INTERNAL', message: /not open/ })
  await call('closePipeline', closed)
  await assert.rejects(adapt(closed) as Promise<void>, { code: 'ABORTED' })
  assert.throws(() => call('memory', closed), { code: 'ERR_INTERNAL' })
})

test('[second-addon] a handle of another copy of the addon', async () => {
  const release = path.join(repository, 'build/Release')
  const copy = path.join(folder, 'torchreel.node')
  copyFileSync(path.join(release, 'torchreel.node'), copy)
  const other = createRequire(import.meta.url)(copy) as Functions
  const libtorch = findLibtorch()
  const minor = /^\d+\.\d+/.exec(libtorch.version)?.[0]
  other.load?.(librariesOf(libtorch), path.join(release, `torchreel_core-${minor}.so`))
  const stranger = other.createPipeline?.()
  assert.throws(() => call('memory', stranger), refused)
  assert.throws(() => other.memory?.(pipeline), refused)
  assert.throws(() => call('randn', other.createGenerator?.(1), [2]), refused)
  await other.closePipeline?.(stranger)
})

test('[v8-memory] V8 knows of the weights while a pipeline is open', async () => {
  const { files, properties } = await readCheckpoint(tinyCheckpoint, {})
  const open = () =>
    NativePipeline.open({
      ...{
        family: 'modelscope',
        networks: files,
        compiledDenoiser: undefined,
        latentScale: [...properties.latentScale],
        latentMean: [...properties.latentMean],
      },
      ...{
        device: 'cpu',
        dtype: 'bfloat16',
        offload: 'none',
        threads: 0,
        captureGraph: false,
        maxHeader: 1e8,
      },
    })
  const first = await open()
  const { external, textEncoder, denoiser, vae } = first.memory()
  const held = [textEncoder, denoiser, vae].reduce((sum, one) => sum + one.mapped + one.copied, 0)
  assert.ok(held > 20e6)
  const second = await open()
  assert.ok(Math.abs(second.memory().external - external - held) < 5e6)
  await second.close()
  assert.ok(Math.abs(first.memory().external - external) < 5e6)
  await first.close()
})

test('the handles above still work', async () => {
  assert.equal((call('randn', generator, [2]) as Float32Array).length, 2)
  await call('closePipeline', pipeline)
})
