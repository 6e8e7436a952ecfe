// `torchreel setup`: what it chooses and says, where it takes libtorch from, and what it does with what is no good.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import * as fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { ownIdentity } from '#dist/files/process_identity.js'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { platformProblem } from '#dist/machine/machine.js'
import { chooseVariant } from '#dist/setup/variant.js'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { sendFile, sendPart } from '../support/hub_server.js'
import { zipOf } from '../support/zip.js'

const base = fs.mkdtempSync(path.join(tmpdir(), 'torchreel-setup-'))
after(() => fs.rmSync(base, { recursive: true }))
let count = 0
let home = ''
let cache = ''
beforeEach(() => {
  home = path.join(base, `${++count}`)
  cache = path.join(home, 'torchreel')
})

// Any library opens; with it in libtorch's place the whole way is gone without half a gigabyte.
const library = fs.readFileSync(`${repository}build/Release/torchreel.node`)
const noAddon = fs.mkdtempSync(path.join(base, 'no-addon-'))
const archive = zipOf({
  'libtorch/build-version': '2.13.0+cu126\n',
  'libtorch/lib/libc10.so': library,
  'libtorch/lib/libtorch_cpu.so': library,
})

/** A folder for PATH with programs of a few lines. */
function programs(files: Record<string, string>): string {
  const folder = fs.mkdtempSync(path.join(base, 'bin-'))
  for (const [name, text] of Object.entries(files))
    fs.writeFileSync(path.join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  return folder
}

function setup(parameters: string[], environment: NodeJS.ProcessEnv = {}) {
  return startNode([`${repository}dist/cli/main.js`, 'setup', ...parameters], {
    ...process.env,
    ...{ TORCHREEL_LIBTORCH: '', XDG_CACHE_HOME: home, PATH: programs({}) },
    ...environment,
  })
}

/** Nothing half-done lies in the cache. */
function assertClean(...names: string[]): void {
  const found = fs.existsSync(cache) ? fs.readdirSync(cache) : []
  assert.deepEqual(found.sort(), names)
}

async function serve(answer: http.RequestListener): Promise<{ url: string; close: () => void }> {
  const server = http.createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close }
}

const gpu = (computeCapability: number) => ({ name: 'GPU', memoryBytes: 2 ** 33, computeCapability })
for (const [driver, capability, variant] of [
  ['580.65.06', 9, 'cu130'],
  ['580.65.06', 12, 'cu130'],
  ['580.65.06', 6.1, 'cu126'],
  ['570.124', 12, 'cu129'],
  ['535.183.01', 8, 'cu126'],
  ['470.256.02', 8, 'cpu'],
] as const) {
  test(`driver ${driver} with a GPU of compute capability ${capability} takes ${variant}`, () => {
    assert.equal(chooseVariant({ driver, gpus: [gpu(capability)] }).variant, variant)
  })
}

test('platforms that cannot run it are refused with the reason', () => {
  assert.match(platformProblem('darwin', 'arm64', undefined) ?? '', /linux-x64.*darwin-arm64/)
  assert.match(platformProblem('linux', 'x64', '') ?? '', /musl/)
  assert.equal(platformProblem('linux', 'x64', '2.36'), undefined)
})

test('--dry-run says what the machine has and where libtorch would come from, and does nothing', async () => {
  const smi = programs({ 'nvidia-smi': 'echo "580.65.06, NVIDIA H200, 143771, 9.0"' })
  const { code, stdout } = await setup(['--dry-run'], { PATH: smi }).ended
  assert.equal(code, 0)
  for (const words of [/580\.65\.06, NVIDIA H200/, /variant +cu130/, /pip install .*\+cu130/, /cu130\.zip/])
    assert.match(stdout, words)
  assert.ok(stdout.includes(cache))
  assertClean()
  assert.match((await setup(['--dry-run']).ended).stdout, /no NVIDIA driver.*variant +cpu/s)
})

test('wrong usage: an unknown variant, two sources, a file that is not there', async () => {
  for (const parameters of [
    ['--variant', 'cu999'],
    ['--use-python', '--variant', 'cpu'],
    ['--from', '/nowhere.zip'],
  ]) {
    const { code, stderr } = await setup(parameters).ended
    assert.equal(code, 2, stderr)
    assert.match(stderr, /ERR_INVALID_ARGUMENT/)
  }
  assertClean()
})

test('an archive from a mirror: broken off, resumed by the next set-up, opened, and nothing else left', async () => {
  let requests: (string | undefined)[] = []
  let cut = true
  const server = await serve((request, response) => {
    const first = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    if (request.headers.range === 'bytes=0-0') {
      response.writeHead(206, { 'content-range': `bytes 0-0/${archive.length}` }).end('P')
      return
    }
    requests.push(request.headers.range)
    if (cut) sendPart(response, archive, first, 100_000)
    else sendFile(response, archive, first)
  })
  try {
    const environment = { TORCHREEL_LIBTORCH_MIRROR: server.url, TORCHREEL_PREBUILD: noAddon }
    const { child, ended } = setup(['--variant', 'cu126'], environment)
    const partial = () =>
      fs.existsSync(cache) ? fs.readdirSync(cache).find((name) => name.includes('incomplete')) : undefined
    const bytes = () => fs.statSync(path.join(cache, partial() as string)).size
    while (!partial() || bytes() < 100_000) await new Promise((resolve) => setTimeout(resolve, 20))
    child.kill('SIGINT')
    assert.equal((await ended).code, 130)

    cut = false
    requests = []
    const { code, stdout, stderr } = await setup(['--variant', 'cu126'], environment).ended
    assert.equal(code, 0, stderr)
    assert.deepEqual(requests, ['bytes=100000-'])
    const installed = stdout.trim()
    assert.equal(fs.realpathSync(path.join(cache, 'libtorch-2.13.0', 'libtorch')), installed)
    assert.ok(fs.readFileSync(path.join(installed, 'lib/libtorch_cpu.so')).equals(library))
    assertClean('libtorch-2.13.0')
  } finally {
    server.close()
  }
})

test('an archive that has not the known sha256 is refused', async () => {
  const server = await serve((_, response) => {
    response.setHeader('content-length', 126_385_248)
    const chunk = Buffer.alloc(1_000_000)
    for (let left = 126_385_248; left > 0; left -= chunk.length)
      response.write(chunk.subarray(0, Math.min(left, chunk.length)))
    response.end()
  })
  try {
    const { code, stderr } = await setup(['--quiet'], { TORCHREEL_LIBTORCH_MIRROR: server.url }).ended
    assert.equal(code, 1)
    assert.match(stderr, /sha256 mismatch.*--from FILE.*ERR_LIBTORCH_NOT_FOUND/s)
    assertClean()
  } finally {
    server.close()
  }
})

test('--from a zip; what is damaged, leads elsewhere or does not open is refused and leaves what was there', async () => {
  const from = async (content: Buffer) => {
    const file = path.join(base, 'given.zip')
    fs.writeFileSync(file, content)
    return setup(['--from', file], { TORCHREEL_PREBUILD: noAddon }).ended
  }
  // A set-up that was killed has left its folder: of a process that this machine has not.
  const dead = ownIdentity.replace(/-\d+-\d+$/, '-999999999-1')
  fs.mkdirSync(path.join(cache, `incoming-${dead}-x`), { recursive: true })
  const good = await from(archive)
  assert.equal(good.code, 0, good.stderr)
  assertClean('libtorch-2.13.0')

  const damaged = Buffer.from(archive)
  damaged[damaged.indexOf('ELF') + 1000] = 0x55 ^ (damaged[damaged.indexOf('ELF') + 1000] as number)
  const version = { 'libtorch/build-version': '2.13.0+cpu' }
  for (const [content, words] of [
    [damaged, /libc10\.so is damaged/],
    [archive.subarray(0, archive.length - 30), /given\.zip: /],
    [zipOf({ '../outside': 'x' }), /invalid relative path/],
    [zipOf({ 'libtorch/lib/libc10.so': '/etc/passwd' }, 0o120777), /is a link/],
    [zipOf({ ...version, 'libtorch/lib/libtorch_cpu.so': 'no library' }), /libtorch_cpu\.so: file too short/],
    [zipOf({ 'readme.txt': 'hello' }), /holds no lib\/libtorch_cpu\.so/],
  ] as [Buffer, RegExp][]) {
    const { code, stderr } = await from(content)
    assert.equal(code, 1, stderr)
    assert.match(stderr, words)
    assert.match(stderr, /ERR_LIBTORCH_NOT_FOUND/)
    assertClean('libtorch-2.13.0')
  }
  assert.equal((await setup([]).ended).stdout, good.stdout)
  assert.ok(!fs.existsSync(path.join(cache, 'outside')))
})

test('pip, with the user’s own configuration: wheels from a folder', async () => {
  const wheels = path.join(home, 'wheels')
  fs.mkdirSync(wheels, { recursive: true })
  const wheel = (name: string, version: string, files: Record<string, Buffer | string>) => {
    const info = `${name}-${version}.dist-info`
    const metadata = `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`
    const all: Record<string, Buffer | string> = {
      ...files,
      [`${info}/METADATA`]: metadata,
      [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    }
    const record = Object.entries(all).map(
      ([file, content]) =>
        `${file},sha256=${createHash('sha256').update(content).digest('base64url')},${content.length}\n`,
    )
    const content = zipOf({ ...all, [`${info}/RECORD`]: `${record.join('')}${info}/RECORD,,\n` })
    fs.writeFileSync(path.join(wheels, `${name}-${version}-py3-none-any.whl`), content)
  }
  wheel('torch', '2.13.0+cpu', {
    'torch/version.py': "__version__ = '2.13.0+cpu'\n",
    'torch/lib/libc10.so': library,
    'torch/lib/libtorch_cpu.so': library,
  })
  wheel('typing_extensions', '4.0', { 'typing_extensions.py': '' })
  const { code, stdout, stderr } = await setup([], {
    ...{ PATH: process.env.PATH, TORCHREEL_PREBUILD: noAddon },
    ...{ PIP_CONFIG_FILE: '/dev/null', PIP_NO_INDEX: '1', PIP_FIND_LINKS: wheels },
  }).ended
  assert.equal(code, 0, stderr)
  assert.match(stderr, /variant +cpu.*from +python3 -m pip install.*libtorch 2\.13\.0\+cpu \(cpu\) is in/s)
  assert.equal(stdout.trim(), path.join(fs.realpathSync(cache), 'libtorch-2.13.0', 'torch'))
  assertClean('libtorch-2.13.0')
})

test('no source works: each is named with its reason', async () => {
  const python3 = programs({ python3: 'echo "No module named pip" >&2; exit 1' })
  const proxy = { HTTPS_PROXY: 'ftp://proxy', https_proxy: '', NO_PROXY: '', no_proxy: '' }
  const { code, stderr } = await setup(['--variant', 'cu126'], { PATH: python3, ...proxy }).ended
  assert.equal(code, 1)
  assert.match(stderr, /- pip, .*: No module named pip\n {2}- archive, https.*: .*the proxy/)
})

test('--use-python links to the torch that python3 has; a pipeline runs with it', async () => {
  const { folder } = findLibtorch()
  const real = execFileSync('sh', ['-c', 'command -v python3'], { encoding: 'utf8' }).trim()
  const python3 = programs({ python3: `PYTHONPATH='${path.dirname(folder)}' exec '${real}' "$@"` })
  const { code, stdout, stderr } = await setup(['--use-python'], { PATH: `${python3}:${process.env.PATH}` })
    .ended
  assert.equal(code, 0, stderr)
  assert.equal(stdout.trim(), folder)
  assert.ok(fs.lstatSync(path.join(cache, 'libtorch-2.13.0')).isSymbolicLink())
  const program = `
    import { TextToVideoPipeline } from 'torchreel'
    const pipeline = await TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)})
    console.log((await pipeline.generate('a', { steps: 1, frames: 1 })).libtorch)`
  const environment = { ...process.env, TORCHREEL_LIBTORCH: '', XDG_CACHE_HOME: home }
  const made = await startNode(['--input-type=module', '-e', program], environment).ended
  assert.match(made.stdout, /^2\.\d+/, made.stderr)

  const none = await setup(['--use-python'], { PATH: programs({ python3: 'echo' }) }).ended
  assert.match(none.stderr, /python3 has no torch/)
})

test('a libtorch for which this torchreel has no core is refused', async () => {
  const file = path.join(base, 'other.zip')
  fs.writeFileSync(
    file,
    zipOf({ 'torch/version.py': "__version__ = '1.13.1'\n", 'torch/lib/libtorch_cpu.so': library }),
  )
  const { code, stderr } = await setup(['--from', file]).ended
  assert.equal(code, 1)
  assert.match(stderr, /this torchreel is built for libtorch 2\.\d+.*, not 1\.13\.1/)
})

test('a libtorch in the cache that is broken is replaced', async () => {
  const lib = path.join(cache, 'libtorch-2.13.0', 'torch', 'lib')
  fs.mkdirSync(lib, { recursive: true })
  fs.writeFileSync(path.join(lib, 'libtorch_cpu.so'), 'no library')
  fs.writeFileSync(path.join(lib, '../version.py'), "__version__ = '2.13.0+cpu'\n")
  const { stdout } = await setup(['--dry-run']).ended
  assert.match(stdout, /no libtorch that works.*pip install/s)
})

test('a cache that cannot be written to', async () => {
  fs.mkdirSync(home)
  fs.writeFileSync(path.join(home, 'file'), '')
  const { code, stderr } = await setup([], { XDG_CACHE_HOME: path.join(home, 'file') }).ended
  assert.equal(code, 1)
  assert.match(stderr, /cannot be written to \(ENOTDIR\).*XDG_CACHE_HOME.*TORCHREEL_LIBTORCH/)
})
