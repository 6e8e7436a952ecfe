// Node's permission model (https://nodejs.org/api/permissions.html), and file systems that cannot flush.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { findFfmpeg } from 'torchreel'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { withEnvironment } from '../support/video.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-permission-'))
after(() => rmSync(folder, { recursive: true }))
const ffmpeg = (await findFfmpeg()).path
const permission = process.allowedNodeEnvironmentFlags.has('--permission')
  ? '--permission'
  : '--experimental-permission'

/** Makes a video in a child process, and prints where it is or why not, and the progress before that. */
async function make(parameters: string[], output: string): Promise<string> {
  const call = { steps: 2, frames: 2, width: 32, height: 32, seed: 1, output, ffmpeg }
  const program = `
    import { TextToVideoPipeline } from 'torchreel'
    try {
      const pipeline = await TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)})
      let steps = 0
      const onProgress = () => { steps++ }
      await pipeline.generate('a', { ...${JSON.stringify(call)}, onProgress }).then(
        ({ file }) => console.log(file),
        ({ code, message }) => console.log(code, message, steps),
      )
    } catch ({ code, message }) { console.log(code, message) }`
  const { stdout, stderr } = await startNode([
    ...['--no-warnings', ...parameters, '--input-type=module', '-e', program],
  ]).ended
  assert.equal(stderr, '')
  return stdout.trim()
}

const outputs = ['a.mp4', 'a.gif', 'a.apng', 'a.rgb', 'frames/']

describe('the permission model', () => {
  const files = [permission, '--allow-fs-read=*', '--allow-fs-write=*']

  for (const name of outputs) {
    test(`${name} is saved`, async () => {
      const file = path.join(folder, name) + (name.endsWith('/') ? '/' : '')
      const said = await make([...files, '--allow-child-process', '--allow-addons'], file)
      assert.match(said, /^\//)
      assert.ok(existsSync(said.replace('%04d', '0001')), said)
    })
  }

  test('without addons: the flag that allows them', async () => {
    const said = await make([...files, '--allow-child-process'], path.join(folder, 'b.gif'))
    assert.match(said, /^ERR_NATIVE_LOAD .*start node with --allow-addons$/s)
  })

  const needed = {
    ffmpeg,
    libtorch: findLibtorch().folder,
    'node-gyp-build': '/etc/alpine-release',
    'the package': repository.replace(/\/$/, ''),
  }
  /** Allows to read the folders that a call needs, but for one. */
  const restricted = (left?: string) => [
    ...[permission, '--allow-addons', '--allow-child-process', `--allow-fs-write=${folder}`],
    ...Object.entries(needed).flatMap(([name, file]) => (name === left ? [] : [`--allow-fs-read=${file}`])),
  ]

  test('a video needs to read four places only', async () => {
    const file = path.join(folder, 'restricted.mp4')
    assert.equal(await make([...restricted(), `--allow-fs-read=${folder}`], file), file)
  })

  for (const [name, code] of [
    ['libtorch', 'ERR_INVALID_ARGUMENT'],
    ['node-gyp-build', 'ERR_NATIVE_LOAD'],
  ] as const) {
    test(`without reading ${name}: the flag that allows it`, async () => {
      using _ = withEnvironment({ TORCHREEL_LIBTORCH: needed.libtorch })
      const said = await make(restricted(name), path.join(folder, 'c.mp4'))
      assert.ok(said.startsWith(code), said)
      assert.ok(said.includes(`start node with --allow-fs-read=${needed[name]}`), said)
    })
  }

  test('without child processes: the flag that allows them', async () => {
    const said = await make([...files, '--allow-addons'], path.join(folder, 'd.mp4'))
    assert.match(said, /^ERR_ENCODER_NOT_FOUND .*start node with --allow-child-process\n/s)
  })

  test('doctor needs to read no more', async () => {
    using _ = withEnvironment({ TORCHREEL_LIBTORCH: needed.libtorch, FFMPEG_PATH: ffmpeg })
    const cli = `${repository}dist/cli/main.js`
    const { stdout } = await startNode(['--no-warnings', ...restricted(), cli, 'doctor', '--json']).ended
    const checks = JSON.parse(stdout).checks as { name: string; ok: boolean }[]
    for (const { name, ok } of checks)
      if (!['models', 'disk', 'gpu'].includes(name)) assert.ok(ok, `${name}: ${stdout}`)
  })

  test('a model’s folder and a source video that may not be read', async () => {
    const elsewhere = path.join(tmpdir(), 'torchreel-not-allowed')
    const program = `
      import { generate } from 'torchreel'
      const model = ${JSON.stringify(tinyCheckpoint)}
      const elsewhere = ${JSON.stringify(elsewhere)}
      for (const options of [{ model: elsewhere }, { model, video: elsewhere, steps: 2, width: 32, height: 32 }])
        await generate('a', options).catch((error) => console.log(error.name, error.code, error.message))`
    const { stdout } = await startNode([
      ...['--no-warnings', ...restricted(), '--input-type=module', '-e', program],
    ]).ended
    const refused = `cannot be read: Node’s permission model refuses it; start node with --allow-fs-read=${elsewhere}`
    assert.deepEqual(stdout.trim().split('\n'), [
      `TorchreelError ERR_MODEL_NOT_FOUND ${elsewhere} ${refused}`,
      `TorchreelError ERR_INVALID_ARGUMENT video: ${elsewhere} ${refused}`,
    ])
  })

  test('without writing: before the first step', async () => {
    const said = await make([permission, '--allow-fs-read=*', '--allow-addons'], path.join(folder, 'b.apng'))
    assert.match(said, /^ERR_OUTPUT_WRITE cannot write b\.apng: .*start node with --allow-fs-write=\S+ 0$/s)
  })
})

/** Makes fsync fail as a file system or Node makes it fail. */
const failingFlush = (code: string) =>
  `--import=data:text/javascript,${encodeURIComponent(`
    import fs from 'node:fs'
    import { syncBuiltinESMExports } from 'node:module'
    fs.fsync = (_, done) => done(Object.assign(new Error('${code}: fsync'), { code: '${code}', syscall: 'fsync' }))
    fs.promises.open = ((open) => async (...args) => Object.assign(await open(...args), { sync: () => { throw new Error('not implemented') } }))(fs.promises.open)
    syncBuiltinESMExports()`)}`

describe('a file system that cannot flush', () => {
  for (const code of ['EINVAL', 'ENOSYS', 'ENOTSUP', 'ERR_ACCESS_DENIED']) {
    test(`${code}: the video is saved all the same`, async () => {
      const file = path.join(folder, `${code}.gif`)
      assert.equal(await make([failingFlush(code)], file), file)
    })
  }

  test('EIO: found before the first step, and nothing stays', async () => {
    const own = path.join(folder, 'broken')
    mkdirSync(own)
    assert.match(
      await make([failingFlush('EIO')], path.join(own, 'a.gif')),
      /^ERR_OUTPUT_WRITE cannot write a\.gif: EIO: fsync 0$/,
    )
    assert.deepEqual(readdirSync(own), [])
  })
})
