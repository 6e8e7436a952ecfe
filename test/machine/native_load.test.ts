// What keeps the addon or libtorch from loading is said with what was tried and what to type.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-load-'))
after(() => rmSync(folder, { recursive: true }))
const { folder: libtorch, version } = findLibtorch()

/** Loads the small checkpoint in a fresh process and gives the code and message of the error. */
async function loadError(environment: NodeJS.ProcessEnv, options: object = {}): Promise<string> {
  const program = `
    import { TextToVideoPipeline } from 'torchreel'
    const loading = TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)}, ${JSON.stringify(options)})
    await loading.catch((error) => console.log(error.name, error.code, error.message))`
  const { ended } = startNode(['--input-type=module', '-e', program], { ...process.env, ...environment })
  const { code, signal, stdout, stderr } = await ended
  assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  return stdout
}

/** A folder that looks like a libtorch: links to the real one, except for what is changed. */
function fakeLibtorch(name: string, versionText: string, change: (lib: string) => void): string {
  const fake = path.join(folder, name)
  const lib = path.join(fake, 'lib')
  mkdirSync(lib, { recursive: true })
  writeFileSync(path.join(fake, 'build-version'), versionText)
  for (const library of ['libc10.so', 'libtorch_cpu.so'])
    symlinkSync(path.join(libtorch, 'lib', library), path.join(lib, library))
  change(lib)
  return fake
}

test('[load-failure] no libtorch anywhere: every place that was looked at, and the command that gets it', async () => {
  const cache = path.join(folder, 'empty')
  const text = await loadError({ TORCHREEL_LIBTORCH: '', XDG_CACHE_HOME: cache })
  assert.match(text, /^TorchreelError ERR_LIBTORCH_NOT_FOUND .*TORCHREEL_LIBTORCH.*npx torchreel setup/s)
  assert.ok(text.includes(`  - ${path.join(cache, 'torchreel')}`))
})

test('[load-failure] a home that cannot be written to, or is none: nothing is written, and the same is said', async () => {
  const readOnly = path.join(folder, 'read-only')
  mkdirSync(readOnly, { mode: 0o555 })
  for (const HOME of [readOnly, '/proc']) {
    const text = await loadError({ TORCHREEL_LIBTORCH: '', XDG_CACHE_HOME: '', HOME })
    assert.match(text, /ERR_LIBTORCH_NOT_FOUND .*no such folder.*npx torchreel setup/s)
    assert.ok(text.includes(path.join(HOME, '.cache', 'torchreel')))
  }
})

test('[load-failure] TORCHREEL_LIBTORCH and the option name a folder without libtorch', async () => {
  for (const text of [
    await loadError({ TORCHREEL_LIBTORCH: folder }),
    await loadError({}, { libtorch: folder }),
  ]) {
    assert.match(text, /ERR_INVALID_ARGUMENT .*lib\/libtorch_cpu\.so.*npx torchreel setup/)
    assert.ok(text.includes(folder))
  }
})

test('[load-failure] a libtorch of another minor version', async () => {
  const fake = fakeLibtorch('old', '1.13.1+cpu', () => {})
  const text = await loadError({ TORCHREEL_LIBTORCH: fake })
  assert.match(
    text,
    /ERR_NATIVE_LOAD .*is built for libtorch 2\.\d+.*, not 1\.13\.1\+cpu.*npx torchreel setup/s,
  )
})

test('[load-failure] a libtorch with a broken library: the loader’s own words', async () => {
  const fake = fakeLibtorch('broken', version, (lib) => {
    rmSync(path.join(lib, 'libtorch_cpu.so'))
    writeFileSync(path.join(lib, 'libtorch_cpu.so'), 'no library')
  })
  const text = await loadError({ TORCHREEL_LIBTORCH: fake })
  assert.match(text, /ERR_NATIVE_LOAD .*libtorch_cpu\.so: file too short\nTried, in this order:\n/)
  for (const file of ['torchreel.node', 'libc10.so', 'libtorch_cpu.so', 'torchreel_core-'])
    assert.match(text, new RegExp(`^  - /.*${file}`, 'm'))
  assert.match(text, /unset it and type: npx torchreel setup/)
})

test('[load-failure] a libtorch with a library whose end is missing: an error, where the loader would die of SIGBUS', async () => {
  const fake = fakeLibtorch('cut', version, (lib) => {
    const library = path.join(lib, 'libc10.so')
    const whole = readFileSync(library)
    rmSync(library)
    writeFileSync(library, whole.subarray(0, whole.length / 4))
  })
  const text = await loadError({ TORCHREEL_LIBTORCH: fake })
  assert.match(
    text,
    /ERR_NATIVE_LOAD .*libc10\.so is cut off: \d+ of at least \d+ bytes\n.*npx torchreel setup/s,
  )
})

test('[load-failure] a libtorch that lies half in its place: what is missing is named', async () => {
  const fake = fakeLibtorch('half', version, (lib) => rmSync(path.join(lib, 'libc10.so')))
  const text = await loadError({ TORCHREEL_LIBTORCH: fake })
  assert.match(text, /ERR_NATIVE_LOAD .*libc10\.so: cannot open shared object file/)
})

test('[load-failure] a libtorch that does not say its version', async () => {
  const fake = fakeLibtorch('nameless', version, () => {})
  rmSync(path.join(fake, 'build-version'))
  assert.match(await loadError({ TORCHREEL_LIBTORCH: fake }), /ERR_NATIVE_LOAD .*version\.py/)
})

test('[load-failure] no addon: where it was looked for, and how to build it', async () => {
  const text = await loadError({ TORCHREEL_PREBUILD: folder })
  assert.match(
    text,
    /ERR_NATIVE_LOAD .*build\/Release.*prebuilds\/linux-x64.*npm install torchreel.*npm run build/s,
  )
})

test('TORCHREEL_LIBTORCH takes a folder that holds a torch package', async () => {
  const holder = path.join(folder, 'holder')
  mkdirSync(holder)
  symlinkSync(libtorch, path.join(holder, 'torch'))
  assert.equal(await loadError({ TORCHREEL_LIBTORCH: holder }), '')
})

test('a second libtorch in one process is refused, not passed over', async () => {
  const other = fakeLibtorch('other', version, () => {})
  const program = `
    import { TextToVideoPipeline } from 'torchreel'
    const load = (options) => TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)}, options)
    await load()
    await load({ libtorch: ${JSON.stringify(libtorch)} })
    await load({ libtorch: ${JSON.stringify(other)} }).catch((error) => console.log(error.code, error.message))`
  const { code, stdout } = await startNode(['--input-type=module', '-e', program]).ended
  assert.equal(code, 0)
  assert.match(stdout, /^ERR_NATIVE_LOAD .*already loaded/)
})

test('require() gives the same package as import', async () => {
  const program = `console.log(typeof require('torchreel').generate)`
  const { ended } = startNode(['--no-warnings', '-e', program])
  assert.ok(repository)
  assert.equal((await ended).stdout, 'function\n')
})
