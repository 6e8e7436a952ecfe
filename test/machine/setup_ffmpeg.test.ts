// `torchreel setup` and ffmpeg: when it gets one, from where, and what it does with what is of no use.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { setupFfmpeg } from '#dist/setup/ffmpeg.js'
import type { Reporting } from '#dist/setup/install.js'
import { unpackPackage } from '#dist/setup/npm_package.js'
import { startNode } from '../support/child.js'
import { repository } from '../support/fixtures.js'
import { type PackedPackage, packPackage, Registry } from '../support/registry.js'
import { withEnvironment } from '../support/video.js'

const base = fs.mkdtempSync(path.join(tmpdir(), 'torchreel-setup-ffmpeg-'))
after(() => fs.rmSync(base, { recursive: true }))
const libtorch = findLibtorch().folder
let home = ''
let cache = ''
beforeEach(() => {
  home = fs.mkdtempSync(path.join(base, 'home-'))
  cache = path.join(home, 'torchreel')
})

/** A program that answers as ffmpeg does. */
const program = (encoder: string) => `#!/bin/sh
case "$*" in
*-encoders) echo ' V....D ${encoder}  an encoder' ;;
*) echo 'ffmpeg version 7.0 Copyright (c) the FFmpeg developers' ;;
esac
`
// With something that does not compress, so that there is something to break off.
const good = await packPackage('@scope/good', {
  ffmpeg: program('libx264'),
  LICENSE: 'GPL',
  ballast: randomBytes(500_000),
})
const poor = await packPackage('@scope/poor', { ffmpeg: program('mpeg4') })

/** An installed torchreel with no ffmpeg package beside it. */
const installed = path.join(base, 'installed')
fs.mkdirSync(path.join(installed, 'node_modules'), { recursive: true })
fs.cpSync(`${repository}dist`, path.join(installed, 'dist'), { recursive: true })
fs.copyFileSync(`${repository}package.json`, path.join(installed, 'package.json'))
const manifest = JSON.parse(fs.readFileSync(`${repository}package.json`, 'utf8'))
for (const name of Object.keys(manifest.dependencies))
  fs.symlinkSync(`${repository}node_modules/${name}`, path.join(installed, 'node_modules', name))

const nothing = fs.mkdtempSync(path.join(base, 'bin-'))

/** What a set-up sees: no program on PATH, no npm, no ffmpeg. */
const bare = () => ({
  ...{ PATH: nothing, XDG_CACHE_HOME: home, npm_config_userconfig: path.join(home, 'npmrc') },
  ...{
    npm_execpath: '',
    npm_config_registry: '',
    FFMPEG_PATH: '',
    FFMPEG_BIN: '',
    TORCHREEL_LIBTORCH: libtorch,
  },
})

function start(parameters: string[], environment: NodeJS.ProcessEnv = {}) {
  const command = [path.join(installed, 'dist/cli/main.js'), ...parameters]
  return startNode(command, { ...process.env, ...bare(), ...environment }, installed).ended
}

/** Sets up with packages of the tests' own. */
function setup(
  packages: readonly PackedPackage[],
  signal?: AbortSignal,
  onProgress: Reporting['onProgress'] = () => {},
) {
  const said: string[] = []
  const sources = packages.map((wanted) => ({
    ...{ name: wanted.name, description: 'a package' },
    get: (folder: string, reporting: Reporting) => unpackPackage(wanted, folder, reporting),
  }))
  const plan = { present: undefined, sources, target: path.join(cache, 'ffmpeg') }
  return setupFfmpeg(plan, { onOutput: (chunk) => said.push(chunk), onProgress, signal }).then(() =>
    said.join(''),
  )
}

const cached = () => (fs.existsSync(cache) ? fs.readdirSync(cache).sort() : [])

test('--dry-run says which package would be fetched, how large it is and to where; --no-ffmpeg leaves ffmpeg out', async () => {
  const { code, stdout, stderr } = await start(['setup', '--dry-run'])
  assert.equal(code, 0, stderr)
  assert.match(stdout, /ffmpeg +none that works\n +from +@[\w/-]+@\d+\.\d+\.\d+: a package on npm, \d+ MB/)
  assert.ok(stdout.includes(path.join(cache, 'ffmpeg')), stdout)
  const without = await start(['setup', '--no-ffmpeg'])
  assert.deepEqual([without.code, without.stdout, without.stderr], [0, `${libtorch}\n`, ''])
  assert.deepEqual(cached(), [])
})

test('from the registry: broken off, resumed by the next set-up, and found by torchreel from then on', async () => {
  using registry = await Registry.start([good])
  using _ = withEnvironment({ ...bare(), npm_config_registry: registry.url })
  registry.cutAfter = 100_000
  const controller = new AbortController()
  const onProgress: Reporting['onProgress'] = ({ bytes, totalBytes }) => {
    assert.equal(totalBytes, good.bytes)
    if (bytes >= 100_000) controller.abort(new Error('stopped'))
  }
  await assert.rejects(setup([good], controller.signal, onProgress), /stopped/)
  assert.match(cached().join(), /^scope-good-1\.0\.0\.tgz\.torchreel\.incomplete$/)

  registry.cutAfter = undefined
  assert.match(await setup([good]), /ffmpeg 7\.0 is in/)
  assert.deepEqual(registry.ranges, [undefined, 'bytes=100000-'])
  assert.deepEqual(cached(), ['ffmpeg'])
  assert.deepEqual(fs.readdirSync(path.join(cache, 'ffmpeg')).sort(), ['LICENSE', 'ballast', 'ffmpeg'])

  const { stdout } = await start(['doctor', '--json'])
  const ffmpeg = JSON.parse(stdout).checks.find((check: { name: string }) => check.name === 'ffmpeg')
  assert.deepEqual([ffmpeg.ok, ffmpeg.details.source], [true, 'torchreel setup'])
  assert.equal(ffmpeg.details.path, path.join(cache, 'ffmpeg', 'ffmpeg'))
  const again = await start(['setup'])
  assert.deepEqual([again.code, again.stderr], [0, ''])
})

test('by npm where there is one, on PATH or named by npm_execpath', async () => {
  const bin = fs.mkdtempSync(path.join(base, 'npm-'))
  const tarball = path.join(bin, 'given.tgz')
  fs.writeFileSync(tarball, good.tarball)
  const pack = `const at = process.argv.indexOf('--pack-destination') + 1
    if (process.argv[2] !== 'pack' || process.argv[3] !== '@scope/good@1.0.0') process.exit(1)
    fs.copyFileSync(${JSON.stringify(tarball)}, process.argv[at] + '/scope-good-1.0.0.tgz')`
  fs.writeFileSync(path.join(bin, 'npm'), `#!${process.execPath}\nconst fs = require('node:fs')\n${pack}`, {
    mode: 0o755,
  })
  fs.copyFileSync(path.join(bin, 'npm'), path.join(bin, 'npm-cli.js'))
  for (const found of [{ PATH: bin }, { npm_execpath: path.join(bin, 'npm-cli.js') }]) {
    using _ = withEnvironment({ ...bare(), ...found })
    assert.match(await setup([good]), /ffmpeg 7\.0 is in/)
    assert.deepEqual(cached(), ['ffmpeg'])
    fs.rmSync(cache, { recursive: true })
  }
})

test('what has another sha512, has no libx264 or is not there is refused, and the next is tried', async () => {
  const damaged = { ...good, name: '@scope/damaged', tarball: Buffer.from(good.tarball) }
  damaged.tarball[1000] = (damaged.tarball[1000] as number) ^ 0x55
  const absent = { ...good, name: '@scope/absent' }
  using registry = await Registry.start([good, poor, damaged])
  using _ = withEnvironment({ ...bare(), npm_config_registry: registry.url })
  const refused = [damaged, poor, absent]
  await assert.rejects(setup(refused), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'ERR_ENCODER_NOT_FOUND')
    assert.match(error.message, /@scope\/damaged.*sha512 mismatch/)
    assert.match(error.message, /@scope\/poor.*has no encoder libx264/)
    assert.match(error.message, /@scope\/absent.*404/)
    assert.match(error.message, /apt install ffmpeg.*FFMPEG_PATH.*--no-ffmpeg/)
    return true
  })
  assert.deepEqual(cached(), [])
  assert.match(await setup([...refused, good]), /ffmpeg 7\.0 is in/)
  assert.deepEqual(cached(), ['ffmpeg'])
})

test('a registry that states another integrity, no registry, and an FFMPEG_PATH that does not work', async () => {
  using registry = await Registry.start([{ ...good, integrity: 'sha512-another' }])
  {
    using _ = withEnvironment({ ...bare(), npm_config_registry: registry.url })
    await assert.rejects(setup([good]), /states another integrity/)
    assert.deepEqual(registry.ranges, [])
  }
  using _ = withEnvironment(bare())
  await assert.rejects(setup([good]), /npm was not found\..*npm_config_registry/)
  fs.writeFileSync(path.join(home, 'npmrc'), `registry=${registry.url}\n`)
  await assert.rejects(setup([good]), /states another integrity/)

  const { code, stderr } = await start(['setup'], { FFMPEG_PATH: '/nowhere/ffmpeg' })
  assert.equal(code, 1)
  assert.match(stderr, /FFMPEG_PATH: \/nowhere\/ffmpeg: no such file.*ERR_ENCODER_NOT_FOUND/s)
  assert.deepEqual(cached(), [])
})
