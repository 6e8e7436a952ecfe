// Checkpoints cut at every 64th, with bits flipped and with every header that the format forbids: refused with a code, or
// loaded and as good as before; never a crash and never a hang.
import assert from 'node:assert/strict'
import { copyFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { TextToVideoPipeline, TorchreelError } from 'torchreel'
import { folder, unet } from '../support/changed_checkpoint.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { malformedHeaders, withHeader } from '../support/malformed_headers.js'
import { tally } from '../support/tally.js'

const original = `${repository}models/shapes` // whose tokenizer is small
const model = path.join(folder, 'model')
cpSync(original, model, { recursive: true })
const options = { steps: 1, frames: 1, width: 16, height: 16, seed: 1 }
const make = async () => {
  await using pipeline = await TextToVideoPipeline.fromPretrained(model)
  return (await pipeline.generate('a big red circle', options)).data
}
const golden = await make()

/** The code that loading ends with, or 'loaded' where the frames are as before. */
async function outcome(name: string, content: Buffer): Promise<string> {
  writeFileSync(path.join(model, name), content)
  try {
    assert.deepEqual(await make(), golden)
    return 'loaded'
  } catch (error) {
    assert.ok(error instanceof TorchreelError, String(error))
    assert.ok(error.message.length < 2000)
    return error.code
  } finally {
    copyFileSync(path.join(original, name), path.join(model, name))
  }
}

/** The same numbers each time. */
function randomNumbers(): (below: number) => number {
  let state = 12345
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function flipped(content: Buffer, at: number, bit: number): Buffer {
  const copy = Buffer.from(content)
  copy[at] = (copy[at] as number) ^ (1 << bit)
  return copy
}

const files = ['model_index.json', 'scheduler/scheduler_config.json', unet]
for (const component of ['text_encoder', 'unet', 'vae']) files.push(`${component}/config.json`)
for (const name of ['vocab.json', 'merges.txt', 'tokenizer_config.json', 'special_tokens_map.json'])
  files.push(`tokenizer/${name}`)
files.push('vae/diffusion_pytorch_model.safetensors', 'text_encoder/model.safetensors')

for (const name of files) {
  test(`[cut-files] ${name} cut at every 64th`, async (t) => {
    const whole = readFileSync(path.join(original, name))
    for (let part = 0; part < 64; part++) {
      const length = Math.floor((whole.length * part) / 64)
      assert.equal(await outcome(name, whole.subarray(0, length)), 'ERR_MODEL_CORRUPT', `${length} bytes`)
    }
    tally(t, 'bad inputs tried', 64)
  })
}

test('[cut-files] a LoRA cut at every 64th', async (t) => {
  const whole = readFileSync(`${repository}test/fixtures/adapters/peft.safetensors`)
  const cut = path.join(folder, 'lora.safetensors')
  await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
  const before = await pipeline.generate('a panda', options)
  for (let part = 0; part < 64; part++) {
    writeFileSync(cut, whole.subarray(0, Math.floor((whole.length * part) / 64)))
    await assert.rejects(pipeline.loadLora(cut), { code: 'ERR_MODEL_CORRUPT' }, `${part}`)
  }
  assert.deepEqual((await pipeline.generate('a panda', options)).data, before.data)
  tally(t, 'bad inputs tried', 64)
})

test('[header-length, header-json, header-offsets, header-shapes, header-names, header-integers] every header that the format forbids', async (t) => {
  for (const [name, header, payload] of malformedHeaders) {
    assert.equal(await outcome(unet, withHeader(header, payload)), 'ERR_MODEL_CORRUPT', name)
  }
  for (const length of [
    0n,
    1n,
    100_000_001n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ]) {
    const code = await outcome(unet, withHeader(Buffer.from('{}'), 4, length))
    assert.equal(code, 'ERR_MODEL_CORRUPT', `a header of ${length} bytes`)
  }
  tally(t, 'bad inputs tried', malformedHeaders.length + 8)
})

test('[flipped-bits] 1000 flips of a bit in the header', async (t) => {
  const whole = readFileSync(path.join(original, unet))
  const headerLength = Number(whole.readBigUInt64LE(0))
  const next = randomNumbers()
  const seen = new Map<string, number>()
  for (let flip = 0; flip < 1000; flip++) {
    const code = await outcome(unet, flipped(whole, next(8 + headerLength), next(8)))
    seen.set(code, (seen.get(code) ?? 0) + 1)
  }
  // A name with another letter is a tensor that is missing and one too many; a length near 2^32 and more is a pickle's.
  const codes = ['loaded', 'ERR_MODEL_CORRUPT', 'ERR_MODEL_INCOMPATIBLE', 'ERR_MODEL_UNTRUSTED']
  assert.deepEqual(
    [...seen.keys()].filter((code) => !codes.includes(code)),
    [],
  )
  assert.ok((seen.get('ERR_MODEL_CORRUPT') ?? 0) > 300, [...seen].join())
  tally(t, 'bad inputs tried', 1000)
})

test('[cut-files, flipped-bits] the whole model still loads', async () =>
  assert.deepEqual(await make(), golden))
