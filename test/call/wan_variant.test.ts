// Wan with other dimensions, whose graphs a user exports, and at other sizes: the reference's embeddings and videos.
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { python } from '../support/compiled_model.js'
import { relativeError } from '../support/fixtures.js'
import { assertSameAsReference } from '../support/reference_videos.js'
import { float32, uint8 } from '../support/safetensors_file.js'
import { optionsOf } from '../support/wan_runs.js'
import {
  wanVariantExpected as expected,
  exportWanVariant,
  wanVariantTensors as tensors,
  wanVariant,
} from '../support/wan_variant.js'

const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-wan-variant-'))
after(() => rmSync(scratch, { recursive: true }))
const model = exportWanVariant(scratch)
const pipeline = await TextToVideoPipeline.fromPretrained(model, { trustGraph: true })
after(() => pipeline.dispose())

interface Manifest {
  graphs: { class: string; architecture: Record<string, unknown>; float32?: string[] }[]
}
const { graphs } = JSON.parse(readFileSync(path.join(model, 'graphs', 'manifest.json'), 'utf8')) as Manifest

test('no graph of the package fits, and each is exported', async () => {
  assert.deepEqual(graphs.map((graph) => graph.class).sort(), [
    'AutoencoderKLWan',
    'UMT5EncoderModel',
    'WanTransformer3DModel',
  ])
  await assert.rejects(TextToVideoPipeline.fromPretrained(`${wanVariant}checkpoint`), {
    code: 'ERR_MODEL_INCOMPATIBLE',
    message: /no graph for the architecture.*export\.py/s,
  })
})

test('what the networks cannot do is not exported, and named', () => {
  const changes: [folder: string, key: string, value: unknown][] = [
    ['vae', 'temperal_downsample', [false, false, true]], // the networks halve time twice
    ['vae', 'is_residual', true],
    ['transformer', 'qk_norm', 'rms_norm'],
  ]
  for (const [folder, key, value] of changes) {
    const changed = path.join(scratch, `${folder}-${key}`)
    cpSync(`${wanVariant}checkpoint`, changed, {
      recursive: true,
      filter: (name) => !name.endsWith('.safetensors'),
    })
    const file = path.join(changed, folder, 'config.json')
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), [key]: value }))
    assert.throws(
      () => python('models/export.py', changed),
      new RegExp(`${folder}/config.json: ${key} must be`),
    )
    assert.ok(!existsSync(path.join(changed, 'graphs')))
  }
})

describe('prompts', () => {
  for (const [index, { text, ids }] of expected.tokens.entries()) {
    test(`${JSON.stringify(text.slice(0, 40))}: embeddings within 1e-4 relative, zeros after the tokens`, async () => {
      const { data, shape } = await pipeline.encodePrompt(text)
      assert.deepEqual(shape, [1, 512, 40])
      const error = relativeError(data.subarray(0, ids.length * 40), float32(tensors, `text.${index}`))
      assert.ok(error < 1e-4, `embeddings are ${error} off`)
      assert.ok(data.subarray(ids.length * 40).every((value) => value === 0))
    })
  }
})

for (const run of expected.pipelines) {
  const size = `${run.width} × ${run.height}, ${run.num_frames ?? 'the source’s'} frames`
  test(`${run.name}, ${size}: latents within 1e-3 relative, frames at most 1 apart and 99.5% equal`, async () => {
    const prompts = [run.prompt].flat()
    const videos = await pipeline.generate(prompts, optionsOf(pipeline, run, tensors))
    assert.equal(videos.length, prompts.length)
    assertSameAsReference(videos, tensors, run.name)
  })
}

describe('bfloat16', () => {
  test('the same parameters stay float32', () => {
    const transformer = graphs.find((graph) => graph.class === 'WanTransformer3DModel')
    assert.deepEqual(transformer?.float32?.toSorted(), expected.float32.toSorted())
  })

  // The checkpoint’s time embedding is a small difference of large numbers, which bfloat16 cannot hold.
  test('latents and frames within what bfloat16 rounds, which they are not without those parameters', async () => {
    const run = expected.bfloat16
    await using half = await TextToVideoPipeline.fromPretrained(model, {
      trustGraph: true,
      dtype: 'bfloat16',
    })
    const video = await half.generate(run.prompt as string, optionsOf(half, run, tensors))
    assert.equal(video.dtype, 'bfloat16')
    const error = relativeError(video.latents?.data ?? [], float32(tensors, 'bfloat16.latents'))
    assert.ok(error < 0.02, `latents are ${error} off`)
    const wanted = uint8(tensors, 'bfloat16.frames')
    const apart = video.data.reduce((sum, value, at) => sum + Math.abs(value - (wanted[at] as number)), 0)
    assert.ok(apart / wanted.length < 2, `frames are ${apart / wanted.length} apart on average`)
  })
})
