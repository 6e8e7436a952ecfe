import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { TextToVideoPipeline } from 'torchreel'
import { readCheckpoint } from '#dist/checkpoint/checkpoint.js'
import { modelscope } from '#dist/families/modelscope/family.js'
import { listModels } from '#dist/hub/cached_models.js'
import { cachedModel, type DownloadProgress, type DownloadStart, resolveModel } from '#dist/hub/hub.js'
import {
  base,
  cache,
  fails,
  inCache,
  model,
  patience,
  pull,
  repository,
  root,
  server,
  sha256,
  succeeds,
  vae,
} from '../support/hub_setup.js'

describe('a pull', () => {
  test('fills the cache in the layout that Python shares, with the files that are needed', async () => {
    server.files.set('README.md', Buffer.from('# not needed'))
    server.files.set('unet/diffusion_pytorch_model.bin', Buffer.from('not needed'))
    server.files.set('samples/a: b?.gif', Buffer.from('not needed'))
    const folder = await succeeds()
    assert.equal(folder, join(repository(), 'snapshots', server.commit))
    assert.equal(readFileSync(join(repository(), 'refs/main'), 'utf8'), server.commit)
    assert.equal(readlinkSync(join(folder, vae)), `../../../blobs/${sha256(server.files.get(vae) as Buffer)}`)
    // git hash-object model_index.json
    const index = server.files.get('model_index.json') as Buffer
    const gitHash = createHash('sha1').update(`blob ${index.length}\0`).update(index).digest('hex')
    assert.equal(readlinkSync(join(folder, 'model_index.json')), `../../blobs/${gitHash}`)
    assert.equal(server.asked.length, 12)
    assert.ok(!server.asked.some((name) => /README|\.bin|gif/.test(name)))
    await readCheckpoint(folder, {})
  })

  test('takes tokenizer.json where a model has neither vocab.json nor merges.txt, as transformers 5 saves it', async () => {
    server.files.clear()
    const put = (folder: string, prefix = '') => {
      for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
        if (statSync(join(folder, name)).isFile())
          server.files.set(prefix + name, readFileSync(join(folder, name)))
    }
    const shapes = fileURLToPath(new URL('models/shapes', root))
    put(shapes)
    for (const name of [...server.files.keys()]) if (name.startsWith('tokenizer/')) server.files.delete(name)
    put(fileURLToPath(new URL('test/fixtures/tokenizer_json/plain', root)), 'tokenizer/')
    server.files.set('tokenizer/vocab.json.bak', Buffer.from('not needed'))
    const { folder } = await pull()
    assert.deepEqual(readdirSync(join(folder, 'tokenizer')).sort(), [
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    assert.deepEqual(await listModels(cache).then(([found]) => found?.problem), undefined)
    process.env.HF_HUB_OFFLINE = '1'
    const call = { steps: 1, frames: 1, seed: 1 }
    await using pulled = await TextToVideoPipeline.fromPretrained(model)
    await using local = await TextToVideoPipeline.fromPretrained(shapes)
    const [one, other] = [
      await pulled.generate('two red circles!', call),
      await local.generate('two red circles!', call),
    ]
    assert.deepEqual(one.data, other.data)
  })

  test('one of vocab.json and merges.txt alone is not enough, and the missing one is named', async () => {
    server.files.delete('tokenizer/merges.txt')
    await fails('ERR_MODEL_NOT_FOUND', /tokenizer\/merges\.txt/)
  })

  test('tells of the licence once, and of bytes that grow to their total', async () => {
    const starts: DownloadStart[] = []
    const seen: DownloadProgress[] = []
    await pull({ onDownload: (start) => starts.push(start), onProgress: (progress) => seen.push(progress) })
    const bytes = server.asked.reduce((sum, name) => sum + (server.files.get(name) as Buffer).length, 0)
    const freeBytes = starts[0]?.freeBytes as number
    assert.ok(freeBytes > bytes)
    assert.deepEqual(starts, [{ model, commit: server.commit, license: 'cc-by-nc-4.0', bytes, freeBytes }])
    assert.deepEqual(seen.at(-1), { file: seen.at(-1)?.file, bytes, totalBytes: bytes })
    for (const [index, { bytes }] of seen.entries()) assert.ok(bytes >= (seen[index - 1]?.bytes ?? 0))
    await pull({ onDownload: () => assert.fail('nothing is missing') })
  })

  test('asks for nothing that is there, and only for what changed', async () => {
    await succeeds()
    server.requests.length = 0
    await succeeds()
    assert.deepEqual(server.downloads, [])
    const old = server.commit
    server.commit = 'd'.repeat(40)
    server.files.set(
      'unet/config.json',
      Buffer.concat([server.files.get('unet/config.json') as Buffer, Buffer.from(' ')]),
    )
    await succeeds()
    assert.deepEqual(server.asked, ['unet/config.json'])
    assert.equal(readFileSync(join(repository(), 'refs/main'), 'utf8'), server.commit)
    assert.ok(existsSync(join(repository(), 'snapshots', old, 'unet/config.json')))
  })

  test('takes a revision, whose name is encoded for the server and nested in refs', async () => {
    await pull({ revision: 'refs/pr/1' })
    assert.equal(readFileSync(join(repository(), 'refs/refs/pr/1'), 'utf8'), server.commit)
    assert.equal(server.requests[0]?.path, `/api/models/${model}/revision/refs/pr/1`)
    await pull({ revision: server.commit })
    assert.deepEqual(readdirSync(join(repository(), 'refs')), ['refs'])
  })

  test('what onProgress throws ends it', async () => {
    const mine = new Error('mine')
    await assert.rejects(
      pull({
        onProgress: () => {
          throw mine
        },
      }),
      mine,
    )
  })
})

describe('the choice of weights', () => {
  const networks = ['unet/diffusion_pytorch_model', 'vae/diffusion_pytorch_model', 'text_encoder/model']
  const weights = () => server.asked.filter((name) => name.endsWith('.safetensors')).sort()
  const renameAll = (to: (base: string) => string, keep = false) => {
    for (const network of networks) {
      server.files.set(to(network), server.files.get(`${network}.safetensors`) as Buffer)
      if (!keep) server.files.delete(`${network}.safetensors`)
    }
  }

  test('without a variant, the files without one', async () => {
    renameAll((network) => `${network}.fp16.safetensors`, true)
    await pull()
    assert.deepEqual(weights(), networks.map((network) => `${network}.safetensors`).sort())
  })

  test('with a variant, its files, so that both lie in one snapshot', async () => {
    renameAll((network) => `${network}.fp16.safetensors`, true)
    await pull({ variant: 'fp16' })
    assert.deepEqual(weights(), networks.map((network) => `${network}.fp16.safetensors`).sort())
    assert.equal(
      await cachedModel(model, { variant: 'fp16' }),
      join(repository(), 'snapshots', server.commit),
    )
  })

  test('without a variant where only fp16 is there, fp16', async () => {
    renameAll((network) => `${network}.fp16.safetensors`)
    await pull()
    assert.deepEqual(weights(), networks.map((network) => `${network}.fp16.safetensors`).sort())
  })

  test('a variant that is not there is said before anything but the index is downloaded', async () => {
    await fails('ERR_MODEL_NOT_FOUND', /has no text_encoder\/model\.fp16\.safetensors/, { variant: 'fp16' })
    assert.deepEqual(server.asked, ['model_index.json'])
  })

  test('shards are those of the index', async () => {
    const whole = server.files.get(vae) as Buffer
    server.files.delete(vae)
    const map = { weight_map: { a: 'part-1.safetensors', b: 'part-2.safetensors', c: 'part-1.safetensors' } }
    server.files.set(`${vae}.index.json`, Buffer.from(JSON.stringify(map)))
    server.files.set('vae/part-1.safetensors', whole.subarray(0, 1000))
    server.files.set('vae/part-2.safetensors', whole.subarray(1000))
    server.files.set('vae/part-3.safetensors', Buffer.from('not needed'))
    const { folder } = await pull()
    assert.deepEqual(
      server.asked.filter((name) => name.includes('part')),
      ['vae/part-1.safetensors', 'vae/part-2.safetensors'],
    )
    rmSync(join(folder, 'vae/part-2.safetensors'))
    assert.equal(await cachedModel(model), undefined)
    await pull()
    assert.equal(await cachedModel(model), folder)
  })

  test('pickles only are refused, with the way out, before anything but the index is downloaded', async () => {
    renameAll((network) => `${network}.bin`)
    await assert.rejects(pull(), { code: 'ERR_MODEL_UNTRUSTED', message: /pickle.*save_pretrained/s })
    assert.deepEqual(server.asked, ['model_index.json'])
    await assert.rejects(resolveModel(model, { patience }), { code: 'ERR_MODEL_UNTRUSTED' })
  })

  test('another kind of model is refused after its index, with what torchreel runs', async () => {
    server.files.set('model_index.json', Buffer.from('{"_class_name": "StableDiffusionPipeline"}'))
    const starts: object[] = []
    await fails(
      'ERR_MODEL_INCOMPATIBLE',
      /is a StableDiffusionPipeline; torchreel runs TextToVideoSDPipeline/,
      {
        onDownload: (start) => starts.push(start),
      },
    )
    assert.deepEqual(server.asked, ['model_index.json'])
    assert.deepEqual(starts, [])
    server.files.delete('model_index.json')
    await assert.rejects(pull(), { code: 'ERR_MODEL_INCOMPATIBLE', message: /model_index\.json/ })
    assert.deepEqual(server.asked, ['model_index.json'])
  })
})

describe('a text encoder apart', () => {
  const ofTextEncoder = (name: string) => name.startsWith('text_encoder/')

  test('a model without its text encoder, which a whole pull adds', async () => {
    const { folder } = await pull({ part: { without: 'textEncoder' } })
    assert.ok(server.asked.length > 0 && !server.asked.some(ofTextEncoder))
    await assert.rejects(resolveModel(model, { localFilesOnly: true }), { code: 'ERR_MODEL_NOT_FOUND' })
    assert.equal(
      await resolveModel(model, { localFilesOnly: true, part: { without: 'textEncoder' } }),
      folder,
    )
    const before = server.asked.length
    await pull()
    assert.ok(server.asked.length > before && server.asked.slice(before).every(ofTextEncoder))
    assert.equal(await resolveModel(model, { localFilesOnly: true }), folder)
  })

  test('a text encoder alone, of a repository of any kind', async () => {
    server.files.delete('model_index.json')
    const part = { textEncoderOf: modelscope }
    const { folder } = await pull({ part })
    assert.ok(server.asked.length > 0 && server.asked.every(ofTextEncoder))
    assert.equal(await resolveModel(model, { localFilesOnly: true, part }), folder)
  })
})

describe('[unsafe-names] unsafe names', () => {
  const names = [
    ...['../x', 'a/../../x', '..', '.', './x', '', '/abs', 'a//b', 'C:\\x', 'c:x', '..\\x', '\\\\h\\s\\f'],
    ...['a\\b', 'a\0b', 'a\nb', '.. /x', '... ', 'con', 'vae/NUL.safetensors', 'x/aux .txt', 5, null],
  ]
  for (const rfilename of names) {
    test(`${JSON.stringify(rfilename)} beside the files that are needed: it is not looked at`, async () => {
      if (typeof rfilename === 'string') server.files.set(rfilename, Buffer.from('not needed'))
      else server.description = { siblings: [{ rfilename }, ...namesOnly()] }
      server.hasTree = true
      await succeeds()
      assert.equal(server.asked.length, 12)
      assert.deepEqual(readdirSync(base).includes('x'), false)
      assert.ok(!inCache().some((name) => name.includes('aux') || name.endsWith('/x')))
    })
  }
  for (const shard of [
    '../../x',
    '/abs',
    'C:\\x',
    '..\\x',
    'a/b.safetensors',
    'x.bin',
    'nul.safetensors',
    5,
  ]) {
    test(`${JSON.stringify(shard)} in a list of shards`, async () => {
      server.files.delete(vae)
      server.files.set(`${vae}.index.json`, Buffer.from(JSON.stringify({ weight_map: { a: shard } })))
      await assert.rejects(pull(), { code: 'ERR_UNSAFE_PATH' })
      assert.ok(!server.asked.some((name) => name.endsWith('.safetensors')))
    })
  }
  test('a commit or a hash that is none is not used as a name', async () => {
    server.description = { sha: '../../../x' }
    await assert.rejects(pull(), { code: 'ERR_DOWNLOAD_FAILED' })
    server.description = {}
    server.siblings = [{ rfilename: 'model_index.json', size: 1, blobId: '../../x' }]
    await assert.rejects(pull(), { code: 'ERR_DOWNLOAD_FAILED' })
    assert.deepEqual(inCache(), [])
  })
})

/** The files as a mirror lists them that ignores `blobs=true`. */
const namesOnly = () => [...server.files.keys()].map((rfilename) => ({ rfilename }))

describe('a mirror that lists names only', () => {
  test('is asked for the tree, once', async () => {
    server.siblings = namesOnly()
    server.hasTree = true
    await readCheckpoint(await succeeds(), {})
    assert.equal(server.requests.filter(({ path }) => path.includes('/tree/')).length, 1)
  })

  test('or for each file, where it has no tree', async () => {
    server.files.set('aux.mp4', Buffer.from('not needed'))
    server.siblings = namesOnly()
    server.hasEtags = true
    await readCheckpoint(await succeeds(), {})
    assert.ok(!server.asked.includes('aux.mp4'))
  })

  test('one entry that is not needed and has no size harms nothing', async () => {
    server.description = {
      siblings: [{ rfilename: 'samples/a.gif' }, ...(await describedFiles())],
    }
    await succeeds()
  })

  test('what is told nowhere is named', async () => {
    server.siblings = namesOnly()
    await assert.rejects(pull(), {
      code: 'ERR_DOWNLOAD_FAILED',
      message: /tells no hash of model_index\.json: .*its ETag is none/,
    })
    assert.deepEqual(inCache(), [])
  })

  test('a wrong hash in an ETag is found', async () => {
    server.siblings = namesOnly()
    server.misbehave = (_request, response, { name, content }) => {
      response.setHeader('etag', name === vae ? `"${'a'.repeat(64)}"` : `"${gitHash(content)}"`)
      return false
    }
    await assert.rejects(pull(), { code: 'ERR_DOWNLOAD_FAILED' })
    assert.ok(!existsSync(join(repository(), 'refs/main')))
  })
})

function gitHash(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
}

async function describedFiles(): Promise<object[]> {
  const url = `http://127.0.0.1:${server.port}/api/models/${model}/revision/main`
  return ((await (await fetch(url)).json()) as { siblings: object[] }).siblings
}
