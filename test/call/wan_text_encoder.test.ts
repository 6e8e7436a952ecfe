// The text encoder of another model, and embeddings that need none.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { type Progress, TextToVideoPipeline } from 'torchreel'
import { wanCheckpoint } from '../support/fixtures.js'
import { readSafetensors, writeSafetensors } from '../support/safetensors_file.js'

const weights = 'text_encoder/model.safetensors'
const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-wan-text-'))
const pipeline = await TextToVideoPipeline.fromPretrained(wanCheckpoint)
after(async () => {
  await pipeline.dispose()
  rmSync(scratch, { recursive: true })
})
const call = { steps: 2, frames: 5, width: 32, height: 32, seed: 4 }

/** A model without a text encoder. */
function without(): string {
  const folder = path.join(scratch, 'without')
  cpSync(wanCheckpoint, folder, { recursive: true, filter: (file) => !file.includes('text_encoder') })
  return folder
}

/** Only a text encoder, with the weights of the small checkpoint changed by `change`. */
function alone(name: string, change: (file: string) => void): string {
  const folder = path.join(scratch, name)
  cpSync(path.join(wanCheckpoint, 'text_encoder'), path.join(folder, 'text_encoder'), { recursive: true })
  change(path.join(folder, weights))
  return folder
}

test('textEncoder: a model whose own is not there, and the other in bfloat16', async () => {
  const model = without()
  await assert.rejects(TextToVideoPipeline.fromPretrained(model), { code: 'ERR_MODEL_NOT_FOUND' })
  const equal = alone('equal', () => {})
  await using other = await TextToVideoPipeline.fromPretrained(model, { textEncoder: pathToFileURL(equal) })
  assert.deepEqual((await other.generate('a cat', call)).data, (await pipeline.generate('a cat', call)).data)

  const half = alone('half', (file) => {
    const tensors = readSafetensors(file)
    for (const tensor of tensors.values()) {
      const bytes = Buffer.alloc(tensor.bytes.length / 2)
      for (let at = 0; at < bytes.length; at += 2) tensor.bytes.copy(bytes, at, 2 * at + 2, 2 * at + 4)
      Object.assign(tensor, { dtype: 'BF16', bytes })
    }
    writeSafetensors(file, tensors)
  })
  await using truncated = await TextToVideoPipeline.fromPretrained(model, { textEncoder: half })
  const embeddings = await truncated.encodePrompt('a cat')
  assert.notDeepEqual(embeddings.data, (await pipeline.encodePrompt('a cat')).data)
  // Nothing of a bfloat16 file in float32 stays copied: layer by layer, and of the table only rows.
  const { textEncoder } = truncated.memory()
  assert.equal(textEncoder.copiedBytes, 0)
  assert.ok(textEncoder.peakCopiedBytes < textEncoder.mappedBytes, 'less than one layer of three at a time')
})

test('textEncoder: another architecture, and none, are refused', async () => {
  const wide = alone('wide', (file) => {
    const config = path.join(path.dirname(file), 'config.json')
    writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), d_ff: 128 }))
  })
  const load = (textEncoder: string) => TextToVideoPipeline.fromPretrained(wanCheckpoint, { textEncoder })
  await assert.rejects(load(wide), { code: 'ERR_MODEL_INCOMPATIBLE' })
  await assert.rejects(load(scratch), { code: 'ERR_MODEL_NOT_FOUND', message: /text_encoder/ })
  await assert.rejects(load('./nothing/here/at/all'), { code: 'ERR_MODEL_NOT_FOUND' })
})

test('textEncoder: a wrong name is refused before the model is looked for', async () => {
  const options = { textEncoder: './nothing/here', cacheDir: scratch, localFilesOnly: true }
  await assert.rejects(TextToVideoPipeline.fromPretrained('owner/absent', options), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /nothing\/here/,
  })
})

test('promptEmbeds make the video of their prompt without reading the text encoder', async () => {
  const promptEmbeds = await pipeline.encodePrompt('a cat')
  const negativePromptEmbeds = await pipeline.encodePrompt('')
  // NaN in every weight: what reads one gives NaN.
  const broken = alone('broken', (file) => {
    const tensors = readSafetensors(file)
    for (const { bytes } of tensors.values()) bytes.fill(0xff)
    writeSafetensors(file, tensors)
  })
  await using other = await TextToVideoPipeline.fromPretrained(wanCheckpoint, { textEncoder: broken })
  const [video] = await other.generate(undefined, { ...call, promptEmbeds, negativePromptEmbeds })
  // A product of fewer rows may be rounded in another way: here each prompt was encoded alone.
  const expected = await pipeline.generate('a cat', call)
  assert.ok(video?.data.every((value, i) => Math.abs(value - (expected.data[i] as number)) <= 1))
  await assert.rejects(other.generate('a cat', call), { code: 'ERR_NUMERIC' })
})

test('progress: a step for each layer of the text encoder, or all at once for a prompt that is known', async () => {
  const told: [number, number][] = []
  const onProgress = ({ stage, step, steps }: Progress) => {
    if (stage === 'encode') told.push([step, steps])
  }
  await pipeline.generate('a prompt of its own', { ...call, onProgress })
  const layers = JSON.parse(
    readFileSync(path.join(wanCheckpoint, 'text_encoder/config.json'), 'utf8'),
  ).num_layers
  const steps = told[0]?.[1] as number
  assert.ok(steps >= layers)
  assert.deepEqual(
    told,
    Array.from({ length: steps + 1 }, (_, step) => [step, steps]),
  )
  told.length = 0
  await pipeline.generate('a prompt of its own', { ...call, onProgress })
  assert.deepEqual(told, [
    [0, steps],
    [steps, steps],
  ])
})
