// A tokenizer.json in place of vocab.json and merges.txt, as transformers 5 saves it. The folders and ids in
// test/fixtures/tokenizer_json are transformers 5.18's: CLIPTokenizer.from_pretrained('models/shapes/tokenizer'), in `added`
// after add_tokens([AddedToken('<Cat>', normalized=False), AddedToken('<dog>', normalized=True)]), save_pretrained, and ids.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { ClipTokenizer } from '#dist/text/clip_tokenizer.js'
import { changed, changedConfig } from '../support/changed_checkpoint.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'

const fixtures = `${repository}test/fixtures/tokenizer_json`
const { prompts, ids } = JSON.parse(readFileSync(`${fixtures}/ids.json`, 'utf8')) as {
  prompts: string[]
  ids: { plain: number[][]; added: number[][] }
}
const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-tokenizer-'))
after(() => rmSync(scratch, { recursive: true }))

type Json = Record<string, unknown>
const readJson = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Json

/** A copy of a folder of the fixtures with its tokenizer.json changed. */
function copyWith(
  name: 'plain' | 'added',
  change: (content: { model: Json; added_tokens: Json[] }) => void,
): string {
  const folder = mkdtempSync(path.join(scratch, name))
  cpSync(`${fixtures}/${name}`, folder, { recursive: true })
  const file = path.join(folder, 'tokenizer.json')
  const content = readJson(file) as { model: Json; added_tokens: Json[] }
  change(content)
  writeFileSync(file, JSON.stringify(content))
  return folder
}

async function checkIds(folder: string, wanted: number[][]): Promise<void> {
  const tokenizer = await ClipTokenizer.load(folder, 24, 379)
  for (const [index, prompt] of prompts.entries()) {
    const row = wanted[index] as number[]
    const padded = [...row, ...new Array<number>(24 - row.length).fill(376)]
    assert.deepEqual(Array.from(tokenizer.encode(prompt).ids), padded, JSON.stringify(prompt))
  }
}

test('ids are those of vocab.json and merges.txt, and the reference’s', async () => {
  await checkIds(`${fixtures}/plain`, ids.plain)
  await checkIds(`${repository}models/shapes/tokenizer`, ids.plain)
})

test('added tokens: in the text as it was given, or in the normalized text', async () => {
  await checkIds(`${fixtures}/added`, ids.added)
})

test('merges as strings, as older versions save them', async () => {
  const folder = copyWith('plain', ({ model }) => {
    model.merges = (model.merges as string[][]).map((pair) => pair.join(' '))
  })
  await checkIds(folder, ids.plain)
})

test('special tokens that only the added tokens have', async () => {
  const folder = copyWith('added', ({ model }) => {
    const { '<|startoftext|>': _, '<|endoftext|>': __, ...vocab } = model.vocab as Record<string, number>
    model.vocab = vocab
  })
  await checkIds(folder, ids.added)
})

for (const [name, files] of Object.entries({
  'added_tokens.json': { 'added_tokens.json': { '<dog>': 378 } },
  'tokenizer_config.json': {
    'tokenizer_config.json': {
      ...readJson(`${fixtures}/plain/tokenizer_config.json`),
      added_tokens_decoder: { 378: { content: '<dog>', normalized: true } },
    },
  },
})) {
  test(`tokens that ${name} adds to vocab.json`, async () => {
    const folder = mkdtempSync(path.join(scratch, 'split'))
    cpSync(`${repository}models/shapes/tokenizer`, folder, { recursive: true })
    for (const [file, content] of Object.entries(files))
      writeFileSync(path.join(folder, file), JSON.stringify(content))
    const tokenizer = await ClipTokenizer.load(folder, 24, 379)
    assert.ok(tokenizer.encode('one <dog>').ids.includes(378))
    await assert.rejects(ClipTokenizer.load(folder, 24, 377), { code: 'ERR_MODEL_CORRUPT', received: 378 })
  })
}

test('other kinds of tokenizers are refused', async () => {
  const unigram = copyWith('plain', ({ model }) => {
    model.type = 'Unigram'
  })
  await assert.rejects(ClipTokenizer.load(unigram, 24, 377), {
    code: 'ERR_MODEL_INCOMPATIBLE',
    message: /tokenizer\.json holds a "Unigram" model; CLIP needs/,
  })
  const wholeWords = copyWith('added', ({ added_tokens: tokens }) => {
    Object.assign(tokens.at(-1) as Json, { single_word: true })
  })
  await assert.rejects(ClipTokenizer.load(wholeWords, 24, 379), {
    code: 'ERR_MODEL_INCOMPATIBLE',
    message: /<dog>/,
  })
  const cut = copyWith('plain', ({ model }) => {
    model.merges = (model.merges as unknown[]).slice(0, 5)
  })
  await assert.rejects(ClipTokenizer.load(cut, 24, 377), { code: 'ERR_MODEL_CORRUPT', message: /5 merges/ })
})

const small = { steps: 1, frames: 1, width: 32, height: 32, seed: 1 }

async function makeVideo(model: string): Promise<Uint8Array> {
  await using pipeline = await TextToVideoPipeline.fromPretrained(model)
  return (await pipeline.generate('a BIG naïve café!', small)).frame(0)
}
const expected = await makeVideo(tinyCheckpoint)

/** Replaces the tokenizer's files by those that transformers 5 saves. */
function saveTogether(file: (name: string) => string): void {
  const text = readFileSync(file('tokenizer/merges.txt'), 'utf8')
  const merges = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const model = {
    type: 'BPE',
    end_of_word_suffix: '</w>',
    vocab: readJson(file('tokenizer/vocab.json')),
    merges: merges.map((line) => line.split(' ')),
  }
  const bang = { id: 0, content: '!', normalized: false, special: true }
  writeFileSync(file('tokenizer/tokenizer.json'), JSON.stringify({ model, added_tokens: [bang] }))
  const config = {
    pad_token: '!',
    eos_token: '<|endoftext|>',
    bos_token: '<|startoftext|>',
    model_max_length: 77,
  }
  writeFileSync(file('tokenizer/tokenizer_config.json'), JSON.stringify(config))
  for (const name of ['merges.txt', 'vocab.json', 'special_tokens_map.json'])
    rmSync(file(`tokenizer/${name}`))
}

test('a folder that current Python saved gives the same video', async () => {
  assert.deepEqual(await makeVideo(changed(saveTogether)), expected)
})

test('a folder without any of them is refused, with the names', async () => {
  const model = changed((file) => {
    saveTogether(file)
    rmSync(file('tokenizer/tokenizer.json'))
  })
  await assert.rejects(TextToVideoPipeline.fromPretrained(model), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /tokenizer\/merges\.txt \(or tokenizer\/tokenizer\.json\), tokenizer\/vocab\.json \(or/,
  })
})

test('line ends and byte order marks of other systems change nothing', async () => {
  const model = changed((file) => {
    for (const name of [
      'model_index.json',
      'scheduler/scheduler_config.json',
      'text_encoder/config.json',
      'tokenizer/merges.txt',
      'tokenizer/special_tokens_map.json',
      'tokenizer/tokenizer_config.json',
      'tokenizer/vocab.json',
      'unet/config.json',
      'vae/config.json',
    ]) {
      const text = readFileSync(file(name), 'utf8')
      writeFileSync(file(name), `\ufeff${text.replaceAll('\n', '\r\n')}`)
    }
  })
  assert.deepEqual(await makeVideo(model), expected)
})

test('sizes as lists', async () => {
  const vae = changedConfig('vae', (config) => {
    config.sample_size = [64, 64]
  })
  assert.deepEqual(await makeVideo(vae), expected)
  const unet = changedConfig('unet', (config) => {
    config.sample_size = [6, 8]
  })
  await using pipeline = await TextToVideoPipeline.fromPretrained(unet)
  const { width, height } = await pipeline.generate('a', { steps: 1, frames: 1 })
  assert.deepEqual([width, height], [32, 24])
})
