// A model's name becomes a folder, of the cache or after a download; and what the commands say of the cache.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { generate, TextToVideoPipeline } from 'torchreel'
import { listModels } from '#dist/hub/cached_models.js'
import { hubCacheFolder } from '#dist/hub/environment.js'
import { cachedModel, pullModel, resolveModel } from '#dist/hub/hub.js'
import { wanCheckpoint } from '../support/fixtures.js'
import { HubServer } from '../support/hub_server.js'
import {
  base,
  blobOf,
  cache,
  checkpoint,
  model,
  patience,
  pull,
  repository,
  run,
  server,
  vae,
} from '../support/hub_setup.js'

describe('resolveModel', () => {
  test('a folder is itself', async () => {
    assert.equal(await resolveModel(checkpoint), checkpoint)
    assert.deepEqual(server.requests, [])
  })

  test('a model is downloaded once, and then found without a question', async () => {
    assert.equal(await cachedModel(model), undefined)
    const folder = await resolveModel(model, { patience })
    server.requests.length = 0
    assert.equal(await resolveModel(model), folder)
    assert.equal(await cachedModel(model), folder)
    assert.equal(await cachedModel(model, { revision: server.commit }), folder)
    assert.deepEqual(server.requests, [])
  })

  test('what is missing of it is downloaded', async () => {
    const folder = await resolveModel(model, { patience })
    rmSync(blobOf(vae))
    server.requests.length = 0
    assert.equal(await resolveModel(model, { patience }), folder)
    assert.deepEqual(server.asked, [vae])
  })

  test('offline it is found in the cache, or said to be missing', async () => {
    const folder = await resolveModel(model, { patience })
    process.env.HF_HUB_OFFLINE = '1'
    server.requests.length = 0
    assert.equal(await resolveModel(model), folder)
    await assert.rejects(resolveModel('owner/other'), {
      code: 'ERR_MODEL_NOT_FOUND',
      message: /HF_HUB_OFFLINE/,
    })
    await assert.rejects(pull(), { code: 'ERR_DOWNLOAD_FAILED', message: /HF_HUB_OFFLINE/ })
    delete process.env.HF_HUB_OFFLINE
    const missing = { code: 'ERR_MODEL_NOT_FOUND', message: /localFilesOnly/ }
    await assert.rejects(resolveModel('owner/other', { localFilesOnly: true }), missing)
    rmSync(blobOf(vae))
    await assert.rejects(resolveModel(model, { localFilesOnly: true }), missing)
    assert.deepEqual(server.requests, [])
  })

  test('what is neither folder nor model is said', async () => {
    for (const name of [
      './nowhere',
      '/nowhere/at/all',
      'nowhere',
      'a/b/c',
      '../nowhere',
      'a/..',
      'a--b/c',
      'a\\b/c',
      'a/b.',
    ]) {
      await assert.rejects(resolveModel(name), { code: 'ERR_MODEL_NOT_FOUND' }, name)
    }
    await assert.rejects(resolveModel(''), { code: 'ERR_INVALID_ARGUMENT' })
    await assert.rejects(pullModel('nowhere'), { code: 'ERR_INVALID_ARGUMENT' })
    for (const revision of ['../x', '', 'a b', '/x', 'a/../../b']) {
      await assert.rejects(resolveModel(model, { revision }), { code: 'ERR_INVALID_ARGUMENT' }, revision)
    }
    await assert.rejects(resolveModel(model, { variant: '../x' }), { code: 'ERR_INVALID_ARGUMENT' })
    assert.deepEqual(server.requests, [])
  })

  test('where the cache is', () => {
    process.env.HF_HUB_CACHE = '/a'
    assert.equal(hubCacheFolder(), '/a')
    delete process.env.HF_HUB_CACHE
    assert.equal(hubCacheFolder(), cache)
    delete process.env.HF_HOME
    process.env.XDG_CACHE_HOME = '/b'
    assert.equal(hubCacheFolder(), '/b/huggingface/hub')
    delete process.env.XDG_CACHE_HOME
    assert.ok(hubCacheFolder().endsWith('/.cache/huggingface/hub'))
  })
})

describe('the commands', () => {
  test('pull prints the folder, and the licence on stderr', async () => {
    const first = await run('pull', model).ended
    assert.deepEqual([first.code, first.stdout], [0, `${join(repository(), 'snapshots', server.commit)}\n`])
    assert.match(
      first.stderr,
      /owner\/tiny cccccccc · 22 MB to get, [\d.]+ [MG]B free · licence: cc-by-nc-4\.0/,
    )
    const second = await run('pull', model, '--json').ended
    assert.equal(second.stderr, '')
    const folder = join(repository(), 'snapshots', server.commit)
    assert.deepEqual(JSON.parse(second.stdout), {
      model,
      folder,
      commit: server.commit,
      license: 'cc-by-nc-4.0',
    })
  })

  test('pull takes its options', async () => {
    const cacheDir = join(base, `other`)
    await run('pull', model, '--revision', 'v1', '--cache-dir', cacheDir, '--token', 'hf_x').ended
    assert.ok(existsSync(join(cacheDir, 'models--owner--tiny/refs/v1')))
    assert.equal(server.requests[0]?.token, 'hf_x')
    const { code, stderr } = await run('pull', model, '--variant', 'fp16').ended
    assert.equal(code, 1)
    assert.match(stderr, /\[ERR_MODEL_NOT_FOUND\]/)
  })

  test('pull --text-encoder leaves out the model’s own and gets the other one', async () => {
    const snapshot = join(repository(), 'snapshots', server.commit)
    const encoder = join(snapshot, 'text_encoder/model.safetensors')
    const alone = await run('pull', model, '--text-encoder', checkpoint).ended
    assert.deepEqual([alone.code, alone.stdout], [0, `${snapshot}\n`])
    assert.ok(existsSync(join(snapshot, vae)) && !existsSync(encoder))
    const wrong = await run('pull', model, '--text-encoder', './nowhere/at/all').ended
    assert.match(wrong.stderr, /textEncoder must be the name of a model.*\[ERR_INVALID_ARGUMENT\]/s)
    const both = await run('pull', model, '--text-encoder', model).ended
    assert.equal(both.stdout, `${snapshot}\n`)
    assert.ok(existsSync(encoder))
  })

  test('models lists what is there and what of it runs', async () => {
    assert.deepEqual(await listModels(), [])
    const { folder, commit } = await pull()
    const bytes = server.asked.reduce((sum, name) => sum + (server.files.get(name) as Buffer).length, 0)
    const runs = { model, commit, revisions: ['main'], folder, bytes, variants: [''], problem: undefined }
    assert.deepEqual(await listModels(), [runs])
    const { stdout } = await run('models').ended
    assert.equal(stdout, 'owner/tiny  main  22 MB  runs\n')

    // Another architecture; a model whose weights are gone; one that is no text-to-video model.
    const copy = (name: string, change: (snapshot: string) => void) => {
      const snapshot = join(cache, name, 'snapshots', commit)
      for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
        if (statSync(join(folder, file)).isDirectory()) continue
        mkdirSync(join(snapshot, file, '..'), { recursive: true })
        writeFileSync(join(snapshot, file), readFileSync(join(folder, file)))
      }
      change(snapshot)
    }
    copy('models--a--deeper', (snapshot) => {
      const config = JSON.parse(readFileSync(join(snapshot, 'unet/config.json'), 'utf8'))
      writeFileSync(join(snapshot, 'unet/config.json'), JSON.stringify({ ...config, layers_per_block: 9 }))
    })
    copy('models--b--partial', (snapshot) => rmSync(join(snapshot, vae)))
    copy('models--c--image', (snapshot) =>
      writeFileSync(join(snapshot, 'model_index.json'), '{"_class_name": "StableDiffusionPipeline"}'),
    )
    const listed = JSON.parse((await run('models', '--json').ended).stdout)
    assert.deepEqual(
      listed.map((one: (typeof listed)[number]) => [one.model, one.variants.length, one.problem?.code]),
      [
        ['a/deeper', 0, 'ERR_MODEL_INCOMPATIBLE'],
        ['b/partial', 0, 'ERR_MODEL_NOT_FOUND'],
        ['owner/tiny', 1, undefined],
      ],
    )
  })
})

describe('refused before the weights are downloaded', () => {
  test('captureGraph without a GPU: nothing is asked for', async () => {
    await assert.rejects(TextToVideoPipeline.fromPretrained(model, { captureGraph: true, device: 'cpu' }), {
      code: 'ERR_DEVICE_UNAVAILABLE',
      parameter: 'captureGraph',
    })
    assert.deepEqual(server.requests, [])
  })

  test("options that the model's family cannot honour: only the index is read", async (t) => {
    const wan = await HubServer.start(wanCheckpoint)
    t.after(() => wan.close())
    process.env.HF_ENDPOINT = `http://127.0.0.1:${wan.port}`
    const refused = (parameter: string) => ({ code: 'ERR_INVALID_ARGUMENT', parameter })
    await assert.rejects(generate('a cat', { model, featureCache: 2 }), refused('featureCache'))
    assert.deepEqual(wan.asked, ['model_index.json'])
  })
})
