// What a Wan model cannot do is refused by its name; a model that only resembles one says what it is.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { type GenerateOptions, type PipelineOptions, TextToVideoPipeline } from 'torchreel'
import { repository, wanCheckpoint } from '../support/fixtures.js'
import { type FileTensor, readSafetensors, writeSafetensors } from '../support/safetensors_file.js'

const pipeline = await TextToVideoPipeline.fromPretrained(wanCheckpoint)
const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-wan-'))
after(async () => {
  await pipeline.dispose()
  rmSync(scratch, { recursive: true })
})

/** A copy of the small checkpoint, changed. */
function changed(name: string, change: (folder: string) => void): string {
  const folder = path.join(scratch, name)
  cpSync(wanCheckpoint, folder, { recursive: true })
  change(folder)
  return folder
}

function changedJson(name: string, file: string, values: Record<string, unknown>): string {
  return changed(name, (folder) => {
    const json = path.join(folder, file)
    writeFileSync(json, JSON.stringify({ ...JSON.parse(readFileSync(json, 'utf8')), ...values }))
  })
}

describe('options', () => {
  const refused: [parameter: string, GenerateOptions][] = [
    ['clipSkip', { clipSkip: 1 }],
    ['freeU', { freeU: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 } }],
    ['featureCache', { featureCache: 2 }],
    ['window', { window: 8 }],
    ['frames', { frames: 12 }],
    ['width', { width: 40 }],
    ['height', { height: 40 }],
    ['scheduler', { scheduler: 'ddim' }],
    ['scheduler', { scheduler: 'euler' }],
  ]
  for (const [parameter, options] of refused) {
    test(`${JSON.stringify(options)} is refused by its name`, async () => {
      const call = pipeline.generate('a cat', { steps: 2, frames: 5, width: 32, height: 32, ...options })
      await assert.rejects(call, { code: 'ERR_INVALID_ARGUMENT', parameter })
    })
  }

  test('a number of frames that the model cannot make names the nearest two', async () => {
    await assert.rejects(pipeline.generate('a cat', { frames: 12 }), { message: /9 or 13/ })
  })

  test('a textual inversion is refused', async () => {
    const file = `${repository}test/fixtures/adapters/glimmerfall.safetensors`
    await assert.rejects(pipeline.loadTextualInversion(file), { code: 'ERR_MODEL_INCOMPATIBLE' })
  })

  test('embeddings of another width are refused', async () => {
    const promptEmbeds = { data: new Float32Array(16), shape: [1, 1, 16] }
    await assert.rejects(pipeline.generate(undefined, { promptEmbeds, guidanceScale: 1 }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'promptEmbeds',
    })
  })
})

describe('checkpoints', () => {
  async function refuses(model: string, code: string, message: RegExp, options: PipelineOptions = {}) {
    await assert.rejects(TextToVideoPipeline.fromPretrained(model, options), { code, message })
  }

  for (const file of [
    'text_encoder/config.json',
    'text_encoder/model.safetensors',
    'transformer/config.json',
    'transformer/diffusion_pytorch_model.safetensors',
    'vae/diffusion_pytorch_model.safetensors',
    'tokenizer/tokenizer.json',
    'scheduler/scheduler_config.json',
  ]) {
    test(`without ${file}`, async () => {
      const folder = changed(`no-${path.basename(path.dirname(file))}-${path.basename(file)}`, (copy) =>
        rmSync(path.join(copy, file)),
      )
      await refuses(folder, 'ERR_MODEL_NOT_FOUND', new RegExp(file.replaceAll('.', '\\.')))
    })
  }

  test('an image-to-video model', async () => {
    const folder = changedJson('image', 'model_index.json', { _class_name: 'WanImageToVideoPipeline' })
    await refuses(
      folder,
      'ERR_MODEL_INCOMPATIBLE',
      /is a WanImageToVideoPipeline; torchreel runs .*WanPipeline/,
    )
  })

  test('Wan 2.2 A14B, which has two transformers', async () => {
    const second = { transformer_2: ['diffusers', 'WanTransformer3DModel'], boundary_ratio: 0.875 }
    const folder = changedJson('a14b', 'model_index.json', second)
    await refuses(folder, 'ERR_MODEL_INCOMPATIBLE', /is a Wan 2\.2 A14B model.*torchreel runs the Wan 2\.1/)
  })

  test('Wan 2.2 TI2V-5B', async () => {
    const folder = changedJson('ti2v', 'model_index.json', { expand_timesteps: true })
    await refuses(
      folder,
      'ERR_MODEL_INCOMPATIBLE',
      /is a Wan 2\.2 TI2V-5B model.*torchreel runs the Wan 2\.1/,
    )
  })

  for (const [file, message] of [
    ['wan2.1_t2v_1.3B_bf16.safetensors', /single file.*-Diffusers/],
    ['wan2.1-t2v-1.3b-q8_0.gguf', /GGUF file: quantized weights/],
  ] as const) {
    test(`${file}, as a file and in a folder`, async () => {
      const folder = path.join(scratch, path.extname(file).slice(1))
      mkdirSync(folder)
      writeFileSync(path.join(folder, file), 'GGUF')
      await refuses(path.join(folder, file), 'ERR_MODEL_INCOMPATIBLE', message)
      await refuses(folder, 'ERR_MODEL_INCOMPATIBLE', message)
    })
  }

  test('a repository in the original layout', async () => {
    const folder = path.join(scratch, 'original')
    mkdirSync(folder)
    for (const file of ['Wan2.1_VAE.pth', 'models_t5_umt5-xxl-enc-bf16.pth', 'config.json']) {
      writeFileSync(path.join(folder, file), '')
    }
    await refuses(folder, 'ERR_MODEL_INCOMPATIBLE', /original layout.*-Diffusers/)
  })

  for (const values of [
    { latents_mean: [0] },
    { latents_mean: 'none' },
    { latents_std: new Array(16).fill(0) },
  ]) {
    test(`vae/config.json with ${JSON.stringify(values)}`, async () => {
      const [key] = Object.keys(values) as [string]
      const folder = changedJson(`vae-${key}-${typeof Object.values(values)[0]}`, 'vae/config.json', values)
      await refuses(folder, 'ERR_MODEL_CORRUPT', new RegExp(`vae/config\\.json: ${key} must be`))
    })
  }

  for (const names of [['encoder.embed_tokens.weight'], ['encoder.embed_tokens.weight', 'shared.weight']]) {
    test(`a text encoder whose table is named ${names.join(' and ')} runs`, async () => {
      const folder = changed(`table-${names.length}`, (copy) => {
        const file = path.join(copy, 'text_encoder/model.safetensors')
        const tensors = readSafetensors(file)
        const table = tensors.get('shared.weight') as FileTensor
        tensors.delete('shared.weight')
        for (const name of names) tensors.set(name, table)
        writeSafetensors(file, tensors)
      })
      await using other = await TextToVideoPipeline.fromPretrained(folder)
      assert.deepEqual((await other.encodePrompt('a cat')).data, (await pipeline.encodePrompt('a cat')).data)
    })
  }
})
