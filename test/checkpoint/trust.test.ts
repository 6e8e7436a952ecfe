// Files are data from anywhere: what is a program is refused and not run, which canaries prove, and no name or link leads
// out of a checkpoint's folder.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { describe, test } from 'node:test'
import { TextToVideoPipeline, type TorchreelErrorCode } from 'torchreel'
import { readCheckpoint } from '#dist/checkpoint/checkpoint.js'
import { changed, changedConfig, folder, unet } from '../support/changed_checkpoint.js'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const canaries = `${repository}test/fixtures/canary/`
const ran = path.join(folder, 'canary-was-run')

/** Loads a checkpoint in a process whose working folder is where canaries write; gives the error's code, or 'loaded'. */
async function outcome(model: string, options: object = {}): Promise<string> {
  const program = `
    import { TextToVideoPipeline } from 'torchreel'
    process.chdir(${JSON.stringify(folder)})
    const loading = TextToVideoPipeline.fromPretrained(${JSON.stringify(model)}, ${JSON.stringify(options)})
    await loading.then(() => console.log('loaded'), (error) => console.log(error.code))`
  return (await startNode(['--input-type=module', '-e', program]).ended).stdout.trim()
}

/** A checkpoint that needs a graph of its own, which is the canary, as its manifest truly says. */
function withCanaryGraph(change: (graph: string) => void = () => {}): string {
  const model = changedConfig('unet', (config) => {
    config.layers_per_block = 2
  })
  const graphs = path.join(model, 'graphs')
  cpSync(`${repository}models/graphs/tiny`, path.join(graphs, 'tiny'), { recursive: true })
  const graph = path.join(graphs, 'tiny/unet.pt')
  copyFileSync(`${canaries}graph.pt`, graph)
  const manifest = JSON.parse(readFileSync(`${repository}models/graphs/manifest.json`, 'utf8'))
  for (const entry of manifest.graphs) {
    if (entry.component !== 'unet') continue
    entry.architecture.layers_per_block = 2
    entry.file = 'tiny/unet.pt'
    entry.sha256 = createHash('sha256').update(readFileSync(graph)).digest('hex')
  }
  writeFileSync(path.join(graphs, 'manifest.json'), JSON.stringify(manifest))
  change(graph)
  return model
}

describe('graphs are programs', () => {
  test('[foreign-graphs] a checkpoint’s own graph is not run unless the caller trusts it', async () => {
    const model = withCanaryGraph()
    assert.equal(await outcome(model), 'ERR_MODEL_UNTRUSTED')
    assert.ok(!existsSync(ran))
    assert.equal(await outcome(model, { trustGraph: true }), 'ERR_MODEL_INCOMPATIBLE')
    assert.ok(existsSync(ran), 'the canary would have told')
    rmSync(ran)
  })

  test('[unpinned-graphs] a trusted graph that is not the one its manifest names is not run', async () => {
    const model = withCanaryGraph((graph) => appendFileSync(graph, 'x'))
    assert.equal(await outcome(model, { trustGraph: true }), 'ERR_MODEL_UNTRUSTED')
    assert.ok(!existsSync(ran))
  })

  for (const file of [
    '../x.pt',
    '/abs.pt',
    'C:\\x.pt',
    '..\\x.pt',
    '\\\\h\\s.pt',
    'a\0.pt',
    '',
    '.',
    'tiny/../../x.pt',
  ]) {
    test(`[unsafe-names] the graph ${JSON.stringify(file)} in a manifest`, async () => {
      const model = withCanaryGraph((graph) => {
        const name = path.join(path.dirname(graph), '../manifest.json')
        const manifest = JSON.parse(readFileSync(name, 'utf8'))
        for (const entry of manifest.graphs) if (entry.architecture.layers_per_block === 2) entry.file = file
        writeFileSync(name, JSON.stringify(manifest))
      })
      await assertRefused(model, 'ERR_UNSAFE_PATH', { trustGraph: true })
    })
  }
})

test('[wrong-configs] a manifest that is none', async () => {
  for (const text of [
    '{}',
    '[]',
    '{"graphs":[null],"defaults":{}}',
    '{"graphs":[{"component":"unet"}],"defaults":{}}',
    '{"graphs":{},"defaults":{}}',
  ]) {
    const model = withCanaryGraph((graph) =>
      writeFileSync(path.join(path.dirname(graph), '../manifest.json'), text),
    )
    await assertRefused(model, 'ERR_MODEL_CORRUPT', { trustGraph: true })
  }
})

async function assertRefused(model: string, code: TorchreelErrorCode, options: object = {}): Promise<void> {
  await assert.rejects(TextToVideoPipeline.fromPretrained(model, options), { name: 'TorchreelError', code })
}

describe('pickles are programs', () => {
  test('[pickles] weights in pickles only', async () => {
    for (const name of ['bin', 'ckpt', 'pt']) {
      const model = changed((file) => {
        rmSync(file(unet))
        copyFileSync(`${canaries}bare.pickle`, file(`unet/diffusion_pytorch_model.${name}`))
      })
      assert.equal(await outcome(model), 'ERR_MODEL_UNTRUSTED')
    }
    assert.ok(!existsSync(ran))
  })

  for (const pickle of ['bare', 'archive']) {
    test(`[pickles] a pickle (${pickle}) under the name of a safetensors file, known by its first bytes`, async () => {
      const model = changed((file) => copyFileSync(`${canaries}${pickle}.pickle`, file(unet)))
      assert.equal(await outcome(model), 'ERR_MODEL_UNTRUSTED')
      await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
      await assert.rejects(pipeline.loadLora(path.join(model, unet)), { code: 'ERR_MODEL_UNTRUSTED' })
      assert.ok(!existsSync(ran))
    })
  }
})

describe('names and links', () => {
  for (const shard of [
    '../x.safetensors',
    '/abs',
    'C:\\x',
    '..\\x',
    '\\\\h\\s\\f',
    'a\0b',
    '',
    '.',
    '..',
    'nul',
    5,
  ]) {
    test(`[unsafe-names] the shard ${JSON.stringify(shard)}`, () =>
      assertRefused(
        changed((file) => {
          rmSync(file(unet))
          writeFileSync(file(`${unet}.index.json`), JSON.stringify({ weight_map: { a: shard } }))
        }),
        'ERR_UNSAFE_PATH',
      ))
  }

  test('[unsafe-links] a link out of the folder, of a file or of a folder', async () => {
    for (const name of [unet, 'unet/config.json', 'tokenizer/vocab.json', 'vae']) {
      const model = changed((file) => {
        renameSync(file(name), path.join(folder, 'outside'))
        symlinkSync(path.join(folder, 'outside'), file(name))
      })
      await assertRefused(model, 'ERR_UNSAFE_PATH')
      rmSync(path.join(folder, 'outside'), { recursive: true })
    }
  })

  test('[unsafe-links] links into a Hugging Face cache are fine, others where the caller trusts them', async () => {
    const hash = 'a'.repeat(64)
    for (const place of [`models--o--n/blobs/${hash}`, `models--o--n/snapshots/${'b'.repeat(40)}/unet/x`]) {
      const target = path.join(folder, `cache-${place.length}`, place)
      mkdirSync(path.dirname(target), { recursive: true })
      const model = changed((file) => {
        renameSync(file(unet), target)
        symlinkSync(target, file(unet))
      })
      await readCheckpoint(model, {})
    }
    const model = changed((file) => {
      renameSync(file(unet), path.join(folder, 'own.safetensors'))
      symlinkSync(path.join(folder, 'own.safetensors'), file(unet))
    })
    await assert.rejects(readCheckpoint(model, {}), {
      code: 'ERR_UNSAFE_PATH',
      message: /set trustLinks: true \(--trust-links\), or copy the file, or link/,
    })
    await readCheckpoint(model, { trustLinks: true })
    await (await TextToVideoPipeline.fromPretrained(model, { trustLinks: true })).dispose()
  })

  test('[unsafe-links] links within the folder, and a link to the folder, are fine', async () => {
    const model = changed((file) => {
      renameSync(file(unet), file('weights'))
      symlinkSync('../weights', file(unet))
    })
    symlinkSync(model, path.join(folder, 'link'))
    await (await TextToVideoPipeline.fromPretrained(path.join(folder, 'link'))).dispose()
  })
})
