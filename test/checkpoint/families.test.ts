// What a checkpoint is, by its index and its configs: its family, its networks' classes, and what a call must know of it.
import assert from 'node:assert/strict'
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, test } from 'node:test'
import { makePreview } from '#dist/call/preview.js'
import { readCheckpoint } from '#dist/checkpoint/checkpoint.js'
import { findVariants, selectFiles } from '#dist/checkpoint/selection.js'
import { families, findFamily, requireFamily } from '#dist/families/families.js'
import { modelscope } from '#dist/families/modelscope/family.js'
import { changed, changedConfig } from '../support/changed_checkpoint.js'
import { repository, tinyCheckpoint, wanCheckpoint } from '../support/fixtures.js'

/** The small checkpoint with another model_index.json. */
function changedIndex(change: (index: Record<string, unknown>) => void): string {
  return changed((file) => {
    const name = file('model_index.json')
    const index = JSON.parse(readFileSync(name, 'utf8'))
    change(index)
    writeFileSync(name, JSON.stringify(index))
  })
}

describe('the family', () => {
  test('is the one that has the class of the pipeline; a class belongs to one family', () => {
    const classes = families.flatMap(({ pipelineClasses }) => pipelineClasses)
    assert.equal(new Set(classes).size, classes.length)
    for (const name of classes) assert.ok(findFamily({ _class_name: name })?.pipelineClasses.includes(name))
    assert.equal(findFamily({ _class_name: 'TextToVideoSDPipeline' }), modelscope)
  })

  for (const name of [
    'StableDiffusionPipeline',
    'constructor',
    '',
    5,
    null,
    undefined,
    ['TextToVideoSDPipeline'],
  ]) {
    test(`of the class ${JSON.stringify(name)} is refused, with the classes that torchreel runs`, () => {
      assert.equal(findFamily({ _class_name: name }), undefined)
      assert.throws(() => requireFamily('owner/model', { _class_name: name }), {
        code: 'ERR_MODEL_INCOMPATIBLE',
        received: name,
        message: /^owner\/model .*; torchreel runs TextToVideoSDPipeline, VideoToVideoSDPipeline/,
      })
    })
  }

  test('has one network of each role, in folders of its own, whose configs are required', () => {
    for (const { components, plainFiles } of families) {
      assert.deepEqual(components.map(({ role }) => role).sort(), ['denoiser', 'textEncoder', 'vae'])
      assert.equal(new Set(components.map(({ folder }) => folder)).size, components.length)
      for (const { folder } of components) assert.equal(plainFiles[`${folder}/config.json`], true)
    }
  })
})

describe('the properties of a model', () => {
  test('of the small checkpoint', async () => {
    const { properties } = await readCheckpoint(tinyCheckpoint, {})
    const { size, sizeMultiple, frameMultiple, vaeScale, latentChannels, latentScale, latentMean } =
      properties
    assert.deepEqual(
      { size, sizeMultiple, frameMultiple, vaeScale, latentChannels, latentMean },
      {
        size: { height: 32, width: 32 },
        sizeMultiple: 4,
        frameMultiple: 1,
        vaeScale: 4,
        latentChannels: 4,
        latentMean: [0, 0, 0, 0],
      },
    )
    const { scaling_factor: scale } = JSON.parse(readFileSync(`${tinyCheckpoint}/vae/config.json`, 'utf8'))
    assert.deepEqual(latentScale, [scale, scale, scale, scale])
    assert.deepEqual(properties.defaults, modelscope.defaults)
    assert.equal(properties.previewColours?.factors.length, 4)
  })

  test('a checkpoint’s own guidance is the default with and without a video', async () => {
    const { properties } = await readCheckpoint(`${repository}models/shapes`, {})
    assert.equal(properties.defaults.guidanceScale, 3)
    assert.equal(properties.defaults.videoGuidanceScale, 3)
    assert.equal(properties.previewColours, undefined, '8 channels are not those of Stable Diffusion')
  })

  test('of Wan: colours for the published VAE’s 16 channels', async () => {
    const { properties } = await readCheckpoint(wanCheckpoint, {})
    assert.deepEqual(
      properties.previewColours?.factors.map(({ length }) => length),
      Array(16).fill(3),
    )
    assert.deepEqual([properties.vaeScale, properties.frameMultiple, properties.sizeMultiple], [8, 4, 16])
  })

  test('a config without sample_size: the caller must give the size', async () => {
    for (const size of [undefined, 0, 1.5, '32']) {
      const model = changedConfig('unet', (config) => {
        config.sample_size = size
      })
      assert.equal((await readCheckpoint(model, {})).properties.size, undefined)
    }
  })

  for (const [folder, key] of [
    ['vae', 'scaling_factor'],
    ['vae', 'sample_size'],
  ] as const) {
    for (const value of [0, -1, '1', null, [1]]) {
      test(`${key} ${JSON.stringify(value)} is refused by its name`, async () => {
        const model = changedConfig(folder, (config) => {
          config[key] = value
        })
        await assert.rejects(readCheckpoint(model, {}), {
          code: 'ERR_MODEL_CORRUPT',
          parameter: key,
          message: new RegExp(`${folder}/config\\.json: ${key} must be a positive number`),
        })
      })
    }
  }
})

describe('a graph is found by the class of the network', () => {
  const { graphs, defaults } = JSON.parse(readFileSync(`${repository}models/graphs/manifest.json`, 'utf8'))

  test('every graph of the package names its class, and there are defaults for each', () => {
    for (const graph of graphs) assert.ok(graph.class in defaults, graph.file)
  })

  test('which model_index.json names', async () => {
    const model = changedIndex((index) => {
      index.unet = ['diffusers', 'UNetMotionModel']
    })
    await assert.rejects(readCheckpoint(model, {}), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /unet\/config\.json \(UNetMotionModel\)/,
    })
  })

  test('or else the config', async () => {
    const model = changedIndex((index) => {
      index.text_encoder = [null, null]
      delete index.unet
      delete index.vae
    })
    const { files } = await readCheckpoint(model, {})
    assert.match(files.textEncoder.graph, /tiny\/text_encoder\.pt$/)
    assert.match(files.denoiser.graph, /tiny\/unet\.pt$/)
    const name = path.join(model, 'vae/config.json')
    const { _class_name: _, ...config } = JSON.parse(readFileSync(name, 'utf8'))
    writeFileSync(name, JSON.stringify(config))
    await assert.rejects(readCheckpoint(model, {}), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /vae\/config\.json \(of no class\)/,
    })
  })
})

describe('the files of a checkpoint', () => {
  const plain = Object.keys(modelscope.plainFiles)
  const weights = ['text_encoder/model', 'unet/diffusion_pytorch_model', 'vae/diffusion_pytorch_model']

  test('whole, in shards, or fp16 if there is no other', () => {
    const names = [
      ...plain,
      `${weights[0]}.safetensors`,
      `${weights[0]}.fp16.safetensors`,
      `${weights[1]}.safetensors.index.json`,
      `${weights[2]}.fp16.safetensors`,
      'transformer/diffusion_pytorch_model.safetensors',
      'README.md',
    ]
    const selection = selectFiles(modelscope, 'owner/model', names)
    assert.deepEqual(selection, {
      plain,
      weights: [`${weights[0]}.safetensors`, `${weights[2]}.fp16.safetensors`],
      indexes: [`${weights[1]}.safetensors.index.json`],
    })
  })

  test('the variants are those of the denoiser', () => {
    const unet = weights[1]
    const variants = (...names: string[]) => findVariants(modelscope, names)
    assert.deepEqual(variants(), [''])
    assert.deepEqual(variants(`${unet}.fp16.safetensors`, `${unet}.safetensors`), ['', 'fp16'])
    assert.deepEqual(variants(`${unet}.safetensors.index.fp16.json`), ['fp16'])
    assert.deepEqual(variants(`${unet}.safetensors.index.json`), [''])
    const others = [`${unet}-00001-of-00002.safetensors`, `${unet}.bin`, `${weights[2]}.fp16.safetensors`]
    assert.deepEqual(variants(...others, `${unet}.bf16.safetensors`), ['bf16'])
  })
})

test('a preview is one linear map of the latents, clamped to bytes', () => {
  // (1, 2, 1, 1, 2): two channels of one row of two pixels.
  const latents = { data: Float32Array.of(0.5, -1, 0.25, 9), shape: [1, 2, 1, 1, 2] }
  const colours = {
    factors: [
      [1, 0, 0],
      [0, 1, 0],
    ],
    offset: [0, 0, -0.5],
  }
  const coloured = makePreview(latents, 0, 4, colours)
  assert.deepEqual(Array.from(coloured.data), [191, 159, 64, 0, 255, 64])
  assert.equal(coloured.fps, 4)
  assert.deepEqual(Array.from(makePreview(latents, 0, 4, undefined).data), [175, 175, 175, 255, 255, 255])
})

describe('a manifest in a checkpoint’s folder', () => {
  /** A checkpoint that needs a graph of its own, and the manifest of that graph. */
  function withOwnGraph(
    change: (manifest: { graphs: Record<string, unknown>[]; defaults: object }) => void,
  ): string {
    const model = changedConfig('unet', (config) => {
      config.norm_eps = 1e-3
    })
    const graphs = path.join(model, 'graphs')
    cpSync(`${repository}models/graphs/tiny`, graphs, { recursive: true })
    const manifest = JSON.parse(readFileSync(`${repository}models/graphs/manifest.json`, 'utf8'))
    const graph = manifest.graphs.find(({ file }: { file: string }) => file === 'tiny/unet.pt')
    graph.architecture.norm_eps = 1e-3
    graph.file = 'unet.pt'
    manifest.graphs = [graph]
    change(manifest)
    writeFileSync(path.join(graphs, 'manifest.json'), JSON.stringify(manifest))
    return model
  }

  test('is used for the networks that the package has no graph for; float32 parameters may be named', async () => {
    const model = withOwnGraph(({ graphs: [graph] }) => {
      Object.assign(graph as object, { float32: ['conv_in.weight'] })
    })
    const { files } = await readCheckpoint(model, { trustGraph: true })
    assert.equal(files.denoiser.graph, path.join(model, 'graphs/unet.pt'))
    assert.match(files.vae.graph, /models\/graphs\/tiny\/vae\.pt$/)
    rmSync(path.join(model, 'graphs/unet.pt'))
    await assert.rejects(readCheckpoint(model, { trustGraph: true }), { code: 'ERR_MODEL_NOT_FOUND' })
  })

  test('of an older version, without classes: export again', async () => {
    const model = withOwnGraph(({ graphs: [graph] }) => {
      delete (graph as Record<string, unknown>).class
    })
    await assert.rejects(readCheckpoint(model, { trustGraph: true }), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      path: path.join(model, 'graphs/manifest.json'),
      message: new RegExp(`older version.*export the graphs again.*models/export\\.py ${model}$`),
    })
    await assert.rejects(readCheckpoint(model, {}), { code: 'ERR_MODEL_UNTRUSTED' })
  })
})
