// LoRA and textual inversion against what the reference makes of the same files on the small checkpoint; taken out again
// to the bit; and what does not fit is refused before anything changes.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, afterEach, test } from 'node:test'
import { generate, TextToVideoPipeline, type TorchreelError } from 'torchreel'
import { ClipTokenizer } from '#dist/text/clip_tokenizer.js'
import { relativeError, repository, tinyCheckpoint } from '../support/fixtures.js'
import { type FileTensors, float32, readSafetensors, writeSafetensors } from '../support/safetensors_file.js'

const folder = `${repository}test/fixtures/adapters/`
const expected = readSafetensors(`${folder}expected.safetensors`)
const peft = `${folder}peft.safetensors`
const kohya = `${folder}kohya.safetensors`
const words = `${folder}words.safetensors`
const glimmerfall = `${folder}glimmerfall.safetensors`

const made = mkdtempSync(path.join(tmpdir(), 'torchreel-adapters-'))
const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { device: 'cpu' })
after(async () => {
  await pipeline.dispose()
  rmSync(made, { recursive: true })
})
afterEach(async () => {
  await pipeline.unloadLora()
  await pipeline.unloadTextualInversion()
})

const call = {
  scheduler: 'checkpoint',
  steps: 3,
  frames: 2,
  width: 64,
  height: 64,
  guidanceScale: 7.5,
  seed: 5,
  returnLatents: true,
}

async function assertLatents(name: string, prompt = 'a boat on a lake', from = pipeline): Promise<void> {
  const { latents } = await from.generate(prompt, call)
  const error = relativeError(latents?.data ?? [], float32(expected, name))
  assert.ok(error < 1e-3, `latents of ${name} are ${error} off`)
}

/** A file with some of the tensors of another, renamed or changed. */
function variantOf(file: string, name: string, change: (tensors: FileTensors) => void): string {
  const tensors = readSafetensors(file)
  change(tensors)
  const variant = path.join(made, `${name}.safetensors`)
  writeSafetensors(variant, tensors)
  return variant
}

function refuses(code: string, message: RegExp) {
  return (error: TorchreelError) => {
    assert.equal(error.code, code, error.message)
    assert.match(error.message, message)
    return true
  }
}

test('a LoRA in PEFT’s layout, its alphas in the metadata: linear, 2-D and 3-D convolution, text encoder', async () => {
  await assertLatents('none')
  assert.equal(await pipeline.loadLora(peft), 'peft')
  await assertLatents('peft')
})

test('a LoRA in Kohya’s layout with alphas, half precision', async () => {
  await pipeline.loadLora(kohya, { name: 'k' })
  await assertLatents('kohya')
  await pipeline.setAdapters([{ name: 'k', scale: 0.5 }])
  await assertLatents('kohya_half')
  assert.deepEqual(pipeline.adapters, [{ name: 'k', file: kohya, scale: 0.5 }])
})

test('several at once with scales, in any order, and one of them taken out', async () => {
  await pipeline.loadLora(kohya, { scale: -0.4 })
  await pipeline.loadLora(peft, { scale: 0.7 })
  await assertLatents('both')
  await pipeline.setAdapters([{ name: 'peft' }])
  await assertLatents('peft')
  await pipeline.unloadLora('peft')
  assert.deepEqual(
    pipeline.adapters.map(({ name, scale }) => [name, scale]),
    [['kohya', 0]],
  )
  await pipeline.setAdapters([{ name: 'kohya', scale: 1 }])
  await assertLatents('kohya')
})

test('taken out again, the weights are the checkpoint’s to the bit, however often', async () => {
  const before = await pipeline.generate('a boat', call)
  for (let round = 0; round < 3; round++) {
    const name = await pipeline.loadLora(round === 1 ? kohya : peft, { scale: 0.3 + round })
    await pipeline.loadTextualInversion(words)
    const changed = await pipeline.generate('a boat', call)
    assert.notDeepEqual(changed.latents?.data, before.latents?.data)
    await pipeline.unloadLora(name)
    await pipeline.unloadTextualInversion('<torch-reel>')
    const restored = await pipeline.generate('a boat', call)
    assert.deepEqual(restored.data, before.data)
    assert.deepEqual(restored.latents, before.latents)
  }
})

test('a scale of 0 leaves the weights as they are', async () => {
  const before = await pipeline.generate('a boat', call)
  await pipeline.loadLora(peft, { scale: 0 })
  assert.deepEqual((await pipeline.generate('a boat', call)).latents, before.latents)
})

test('names of before PEFT mean the same layers', async () => {
  const renamed = variantOf(peft, 'old', (tensors) => {
    for (const [name, tensor] of [...tensors]) {
      tensors.delete(name)
      const half = name.includes('.lora_A.') ? 'down' : 'up'
      const module = name.replace(/\.lora_[AB]\.weight$/, '')
      const old = /attn[12]\.to_/.test(module)
        ? `${module.replace(/(attn[12])\.to_(\w+)(\.0)?$/, '$1.processor.to_$2')}_lora.${half}.weight`
        : `${module.replace('text_encoder.text_model.', 'text_encoder.')}.lora.${half}.weight`
      tensors.set(old, tensor)
    }
  })
  const plain = variantOf(peft, 'plain', () => {})
  // Neither file has metadata, so alpha is the rank.
  await pipeline.loadLora(plain)
  const wanted = await pipeline.generate('a boat', call)
  await pipeline.unloadLora()
  await pipeline.loadLora(renamed)
  assert.deepEqual((await pipeline.generate('a boat', call)).latents, wanted.latents)
})

test('calls that were queued before a change are made without it', async () => {
  const wanted = await pipeline.generate('a boat', call)
  const queued = pipeline.generate('a boat', call)
  const [, video] = await Promise.all([pipeline.loadLora(peft), queued])
  assert.deepEqual(video.latents, wanted.latents)
  const taken = pipeline.generate('a boat', call)
  const [, adapted] = await Promise.all([pipeline.unloadLora('peft'), taken])
  assert.notDeepEqual(adapted.latents, wanted.latents)
})

test('works under offload, and in another dtype close to what float32 gives', async () => {
  await using offloaded = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, {
    device: 'cpu',
    offload: 'model',
  })
  await offloaded.loadLora(peft)
  await assertLatents('peft', undefined, offloaded)
  await offloaded.unloadLora()
  await assertLatents('none', undefined, offloaded)

  await using half = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, {
    device: 'cpu',
    dtype: 'bfloat16',
  })
  const before = await half.generate('a boat on a lake', call)
  await half.loadLora(kohya)
  const { latents } = await half.generate('a boat on a lake', call)
  const error = relativeError(latents?.data ?? [], float32(expected, 'kohya'))
  const without = relativeError(latents?.data ?? [], float32(expected, 'none'))
  assert.ok(error < 0.1 && error < without / 2, `bfloat16 is ${error} off, and ${without} from no LoRA`)
  await half.unloadLora()
  assert.deepEqual((await half.generate('a boat on a lake', call)).latents, before.latents)
})

test('tensors that do not fit are named, ten of each kind, and nothing changes', async () => {
  const before = await pipeline.generate('a boat', call)
  const strange = variantOf(peft, 'strange', (tensors) => {
    const some = [...tensors.values()][0]
    for (let n = 0; n < 12; n++) if (some) tensors.set(`unet.nowhere.${n}.lora_A.weight`, some)
    const conv = tensors.get('unet.conv_in.lora_A.weight')
    if (conv) conv.shape = [...conv.shape].reverse()
    tensors.delete('unet.conv_out.lora_B.weight')
  })
  await assert.rejects(
    pipeline.loadLora(strange),
    refuses(
      'ERR_MODEL_INCOMPATIBLE',
      /12 unknown: (unet\.nowhere\.\d+\.lora_A\.weight, ){10}…; 1 without its other half: unet\.conv_out\.lora_A\.weight; 2 of another shape or type: unet\.conv_in\.lora_A\.weight \[3,3,4,4\] instead of \[3,4,3,3\]/,
    ),
  )
  const dora = variantOf(peft, 'dora', (tensors) => {
    const some = [...tensors.values()][0]
    if (some) tensors.set('unet.conv_in.lora_magnitude_vector', some)
  })
  await assert.rejects(pipeline.loadLora(dora), refuses('ERR_MODEL_INCOMPATIBLE', /lora_magnitude_vector/))
  const empty = variantOf(peft, 'empty', (tensors) => tensors.clear())
  await assert.rejects(pipeline.loadLora(empty), refuses('ERR_MODEL_INCOMPATIBLE', /changes nothing/))
  assert.deepEqual(pipeline.adapters, [])
  assert.deepEqual((await pipeline.generate('a boat', call)).latents, before.latents)
})

test('a file whose numbers are cut off is corrupt, and what was loaded stays as it is', async () => {
  await pipeline.loadLora(peft)
  const cut = path.join(made, 'cut.safetensors')
  writeFileSync(cut, readFileSync(kohya).subarray(0, -100))
  await assert.rejects(pipeline.loadLora(cut), refuses('ERR_MODEL_CORRUPT', /cut\.safetensors/))
  const text = path.join(made, 'text.safetensors')
  writeFileSync(text, 'no weights at all')
  await assert.rejects(pipeline.loadLora(text), refuses('ERR_MODEL_CORRUPT', /text\.safetensors/))
  await assertLatents('peft')
})

test('wrong arguments', async () => {
  await pipeline.loadLora(peft)
  await assert.rejects(
    pipeline.loadLora(peft, { name: 'peft' }),
    refuses('ERR_INVALID_ARGUMENT', /^name must/),
  )
  assert.equal(await pipeline.loadLora(peft, { scale: 0 }), 'peft_2')
  await assert.rejects(pipeline.unloadLora('pet'), refuses('ERR_INVALID_ARGUMENT', /did you mean "peft"/))
  await assert.rejects(
    pipeline.setAdapters([{ name: 'other' }]),
    refuses('ERR_INVALID_ARGUMENT', /^no LoRA is named "other"; loaded: peft, peft_2$/),
  )
  await assert.rejects(
    pipeline.loadLora(peft, { scale: Number.NaN }),
    refuses('ERR_INVALID_ARGUMENT', /^scale must/),
  )
  await assert.rejects(
    pipeline.loadLora(`${made}/none.safetensors`),
    refuses('ERR_MODEL_NOT_FOUND', /missing/),
  )
  await assert.rejects(pipeline.loadLora('lora.ckpt'), refuses('ERR_MODEL_UNTRUSTED', /pickle/))
  await assert.rejects(
    generate('a boat', { model: tinyCheckpoint, loras: 'x' as unknown as [] }),
    refuses('ERR_INVALID_ARGUMENT', /^loras must be an array/),
  )
})

// ---- textual inversion ----------------------------------------------------------------------------------------------

test('words of textual inversions give the reference’s ids and latents', async () => {
  assert.equal(await pipeline.loadTextualInversion(words), '<torch-reel>')
  assert.equal(await pipeline.loadTextualInversion(glimmerfall), 'glimmerfall')
  assert.deepEqual(pipeline.textualInversions, [
    { token: '<torch-reel>', vectors: 3, file: words },
    { token: 'glimmerfall', vectors: 1, file: glimmerfall },
  ])
  await assertLatents('words', 'a glimmerfall boat on a <torch-reel>')
  await assertLatents('none')
})

test('ids of words, before and after one of them is taken out', async () => {
  const wanted = JSON.parse(readFileSync(`${folder}expected.json`, 'utf8')) as {
    prompts: string[]
    ids: number[][]
    ids_after_unloading: number[][]
  }
  const tokenizer = await ClipTokenizer.load(`${tinyCheckpoint}/tokenizer`, 77, 49408)
  const first = tokenizer.vocabularySize
  const ids = () => wanted.prompts.map((prompt) => Array.from(tokenizer.encode(prompt).ids))
  tokenizer.setAddedTokens([
    { content: '<torch-reel>', ids: [first, first + 1, first + 2] },
    { content: '<torch-reel>_1', ids: [first + 1] },
    { content: '<torch-reel>_2', ids: [first + 2] },
    { content: 'glimmerfall', ids: [first + 3] },
  ])
  assert.deepEqual(ids(), wanted.ids)
  tokenizer.setAddedTokens([{ content: 'glimmerfall', ids: [first] }])
  assert.deepEqual(ids(), wanted.ids_after_unloading)
})

test('words taken out in any order leave the others as they were', async () => {
  const prompt = 'a glimmerfall boat'
  await pipeline.loadTextualInversion(glimmerfall)
  const { data } = await pipeline.encodePrompt(prompt)
  await pipeline.unloadTextualInversion()
  assert.notDeepEqual((await pipeline.encodePrompt(prompt)).data, data)
  await pipeline.loadTextualInversion(words)
  await pipeline.loadTextualInversion(glimmerfall)
  await pipeline.loadLora(peft, { scale: 0 })
  const queued = pipeline.encodePrompt(prompt)
  const removed = pipeline.unloadTextualInversion('<torch-reel>')
  assert.deepEqual((await queued).data, data)
  await removed
  assert.deepEqual((await pipeline.encodePrompt(prompt)).data, data)
})

test('a word of one’s own, and files that are no textual inversion', async () => {
  await pipeline.loadTextualInversion(glimmerfall, { token: '<Other>' })
  await assert.rejects(
    pipeline.loadTextualInversion(words, { token: '<other>' }),
    refuses('ERR_INVALID_ARGUMENT', /^token must/),
  )
  await assert.rejects(
    pipeline.loadTextualInversion(glimmerfall, { token: 'cat' }),
    refuses('ERR_INVALID_ARGUMENT', /does not know yet/),
  )
  await assert.rejects(
    pipeline.unloadTextualInversion('<torch-reel>'),
    refuses('ERR_INVALID_ARGUMENT', /^no textual inversion is named "<torch-reel>"; loaded: <Other>$/),
  )
  await assert.rejects(
    pipeline.loadTextualInversion(peft),
    refuses('ERR_MODEL_INCOMPATIBLE', /not a textual inversion/),
  )
  const wide = variantOf(glimmerfall, 'wide', (tensors) => {
    const table = tensors.get('emb_params')
    if (table) table.shape = [2, 16]
  })
  await assert.rejects(
    pipeline.loadTextualInversion(wide),
    refuses('ERR_MODEL_INCOMPATIBLE', /vectors of 32 numbers.*\[2,16\]/),
  )
  const sdxl = variantOf(glimmerfall, 'sdxl', (tensors) => {
    const table = tensors.get('emb_params')
    tensors.clear()
    if (table) tensors.set('clip_g', { ...table, shape: [2, 16] }).set('clip_l', table)
  })
  assert.equal(await pipeline.loadTextualInversion(sdxl), 'sdxl')
})

test('one call loads what it is told to', async () => {
  const video = await generate('a boat on a lake', {
    ...{ ...call, model: tinyCheckpoint, device: 'cpu' },
    loras: [kohya, { file: peft, scale: 0 }],
    textualInversions: [words, { file: glimmerfall, token: '<fall>' }],
  })
  const error = relativeError(video.latents?.data ?? [], float32(expected, 'kohya'))
  assert.ok(error < 1e-3, `latents are ${error} off`)
})
