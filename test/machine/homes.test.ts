// Users without a home, `~` in options and variables, file URLs where paths are taken, folders where files are meant.
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { findFfmpeg, TextToVideoPipeline } from 'torchreel'
import { readCompiledDenoiser } from '#dist/checkpoint/compiled_denoiser.js'
import { listModels } from '#dist/hub/cached_models.js'
import { hubCacheFolder } from '#dist/hub/environment.js'
import { pullModel, resolveModel } from '#dist/hub/hub.js'
import { cacheFolder } from '#dist/machine/cache.js'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-homes-'))
after(() => rmSync(folder, { recursive: true }))
const libtorch = findLibtorch().folder
const ffmpeg = (await findFfmpeg()).path

/** Node's answer for a user without an entry in passwd and without HOME. */
const noHome = `--import=data:text/javascript,${encodeURIComponent(`
  import os from 'node:os'
  import { syncBuiltinESMExports } from 'node:module'
  os.homedir = () => { throw new Error('uv_os_homedir returned ENOENT') }
  syncBuiltinESMExports()`)}`

const { HOME: _, XDG_CACHE_HOME: __, HF_HOME: ___, HF_HUB_CACHE: ____, ...others } = process.env
const bare: NodeJS.ProcessEnv = { ...others, TORCHREEL_LIBTORCH: libtorch, FFMPEG_PATH: ffmpeg }

describe('a user without a home', () => {
  const empty = path.join(folder, 'empty')
  mkdirSync(empty)
  const torchreel = (parameters: string[], environment: NodeJS.ProcessEnv = bare) =>
    startNode([noHome, `${repository}dist/cli/main.js`, ...parameters], environment, empty).ended

  test('doctor says which variables to set', async () => {
    const { code, stdout, stderr } = await torchreel(['doctor'])
    assert.equal(stderr, '')
    assert.equal(code, 1)
    assert.match(stdout, /^ok {2}libtorch/m)
    assert.match(stdout, /^no {2}models .*no home folder\n.*HOME or HF_HOME/m)
    assert.match(stdout, /^no {2}disk .*no home folder\n.*HOME or XDG_CACHE_HOME/m)
  })

  test('models, setup with what is there, and a video without a named model work', async () => {
    const models = await torchreel(['models'])
    assert.equal(models.code, 0)
    assert.match(models.stderr, /no text-to-video model .*set HOME or HF_HOME/)
    const setup = await torchreel(['setup'])
    assert.deepEqual([setup.code, setup.stdout.trim()], [0, libtorch])
    const video = await torchreel([
      'a red circle',
      '--steps',
      '1',
      '--frames',
      '1',
      '-o',
      path.join(folder, 'x.gif'),
    ])
    assert.match(video.stdout, /\(shapes, seed/, video.stderr)
    assert.deepEqual(readdirSync(empty), [])
  })

  test('what needs a cache says which variable to set', async () => {
    const environment = { ...bare, TORCHREEL_LIBTORCH: '' }
    for (const [parameters, code, words] of [
      [['pull', 'owner/name'], 'ERR_INVALID_ARGUMENT', /Set HOME or HF_HOME/],
      [['setup', '--dry-run'], 'ERR_INVALID_ARGUMENT', /Set HOME or XDG_CACHE_HOME/],
      [
        ['a', '--model', tinyCheckpoint],
        'ERR_LIBTORCH_NOT_FOUND',
        /no home folder\nSet HOME or XDG_CACHE_HOME/,
      ],
      [['a', '--model', '~/model'], 'ERR_INVALID_ARGUMENT', /Set HOME, or write the whole path/],
    ] as const) {
      const { stderr } = await torchreel([...parameters], environment)
      assert.match(stderr, words)
      assert.ok(stderr.includes(`[${code}]`), stderr)
    }
    assert.deepEqual(readdirSync(empty), [])
  })

  test('relative homes and caches make no folder in the working directory', async () => {
    const environment = { ...bare, HOME: '', XDG_CACHE_HOME: 'cache' }
    const { stdout } = await startNode([`${repository}dist/cli/main.js`, 'doctor'], environment, empty).ended
    assert.ok(!stdout.includes(path.join(empty, 'cache')), stdout)
    assert.deepEqual(readdirSync(empty), [])
  })
})

/** Sets variables while something is done. */
async function withVariables(variables: NodeJS.ProcessEnv, work: () => unknown): Promise<void> {
  const before = { ...process.env }
  Object.assign(process.env, variables)
  try {
    await work()
  } finally {
    process.env = before
  }
}

test('~ is the home in variables and options', async () => {
  const home = path.join(folder, 'home')
  cpSync(tinyCheckpoint, path.join(home, 'tiny'), { recursive: true })
  await withVariables({ HOME: home }, async () => {
    assert.equal(await resolveModel('~/tiny'), path.join(home, 'tiny'))
    await withVariables({ XDG_CACHE_HOME: '~/cache' }, () => {
      assert.equal(cacheFolder(), path.join(home, 'cache/torchreel'))
    })
    await withVariables({ HF_HUB_CACHE: '~/hub' }, () =>
      assert.equal(hubCacheFolder(), path.join(home, 'hub')),
    )
    assert.throws(() => findLibtorch('~/nowhere'), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /no such folder/,
    })
    await withVariables({ TORCHREEL_LIBTORCH: '~' }, () =>
      assert.throws(() => findLibtorch(), { message: /neither it nor torch/ }),
    )
    await assert.rejects(
      pullModel('owner/name', { cacheDir: '~/models', localFilesOnly: true, token: false }),
    )
    await using pipeline = await TextToVideoPipeline.fromPretrained('~/tiny', { libtorch })
    const { file } = await pipeline.generate('a', {
      steps: 1,
      frames: 1,
      output: { path: '~/out.gif' },
      ffmpeg,
    })
    assert.equal(file, path.join(home, 'out.gif'))
    await assert.rejects(pipeline.loadLora('~/none.safetensors'), {
      code: 'ERR_MODEL_NOT_FOUND',
      path: path.join(home, 'none.safetensors'),
    })
  })
  assert.ok(!existsSync('~'))
})

test('file URLs wherever a path is taken', async () => {
  const model = pathToFileURL(tinyCheckpoint)
  const options = { libtorch: pathToFileURL(libtorch), cacheDir: pathToFileURL(folder) }
  await using pipeline = await TextToVideoPipeline.fromPretrained(model, options)
  assert.equal(pipeline.folder, tinyCheckpoint)
  const call = { steps: 2, frames: 1, ffmpeg: pathToFileURL(ffmpeg) }
  const output = pathToFileURL(path.join(folder, 'a b.gif'))
  const { file } = await pipeline.generate('a', { ...call, output })
  await pipeline.generate('a', { ...call, video: output.href })
  assert.equal(file, path.join(folder, 'a b.gif'))
  assert.equal(await resolveModel(model.href), tinyCheckpoint)
  const missing = { code: 'ERR_MODEL_NOT_FOUND', path: path.join(folder, 'none.safetensors') }
  await assert.rejects(pipeline.loadLora(pathToFileURL(missing.path)), missing)
  await assert.rejects(pipeline.loadTextualInversion(pathToFileURL(missing.path)), missing)
  await assert.rejects(TextToVideoPipeline.fromPretrained(new URL('https://host/model')), {
    code: 'ERR_INVALID_ARGUMENT',
    parameter: 'model',
  })
  assert.deepEqual(await listModels(folder), [])
})

test('folders where files are meant', async () => {
  await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
  await assert.rejects(pipeline.loadLora(folder), { message: /a folder|safetensors/ })
  await assert.rejects(pipeline.loadTextualInversion(folder), { message: /is a folder, not a file/ })
  await assert.rejects(readCompiledDenoiser(folder), { message: /is a folder, not a file/ })
  await assert.rejects(pipeline.generate('a', { video: folder }), {
    code: 'ERR_INVALID_ARGUMENT',
    parameter: 'video',
  })
  await assert.rejects(findFfmpeg(folder), { code: 'ERR_ENCODER_NOT_FOUND' })
  await assert.rejects(TextToVideoPipeline.fromPretrained(`${tinyCheckpoint}/model_index.json`), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /is a file, not a model's folder/,
  })
})
