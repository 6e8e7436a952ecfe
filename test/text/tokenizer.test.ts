// Prompts become the reference's token ids.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { ClipTokenizer } from '#dist/text/clip_tokenizer.js'
import { expected, expectedTensors, repository, tinyCheckpoint } from '../support/fixtures.js'
import { int64 } from '../support/safetensors_file.js'

const tokenizer = await ClipTokenizer.load(`${tinyCheckpoint}/tokenizer`, 77, 49408)
const wanted = int64(expectedTensors, 'tokens.input_ids')

for (const [index, prompt] of expected.prompts.entries()) {
  test(`[tokens] ids of ${JSON.stringify(prompt.slice(0, 40))}`, () => {
    assert.deepEqual(Array.from(tokenizer.encode(prompt).ids), wanted.slice(index * 77, (index + 1) * 77))
  })
}

test('[tokens] random prompts from many scripts', () => {
  const { cases } = JSON.parse(readFileSync(`${repository}test/fixtures/tokens.json`, 'utf8')) as {
    cases: { prompt: string; ids: number[] }[]
  }
  for (const { prompt, ids } of cases) {
    const padded = [...ids, ...new Array<number>(77 - ids.length).fill(0)]
    assert.deepEqual(Array.from(tokenizer.encode(prompt).ids), padded, JSON.stringify(prompt))
  }
})

test('known ids: a literal "!" is the padding token and is kept', () => {
  const { ids } = tokenizer.encode('"Hello, World! naïve café 日本 123 don\'t"')
  const text = [3306, 267, 1002, 0, 1097, 35689, 563, 15304, 39121, 19277, 361, 272, 273, 274, 847, 713]
  assert.deepEqual(Array.from(ids).slice(0, 20), [49406, 257, ...text, 257, 49407])
})

test('names of every object are no tokens', () => {
  for (const name of ['__proto__', 'constructor', 'toString']) assert.equal(tokenizer.knows(name), false)
})

test('what does not fit is cut and counted', () => {
  assert.equal(tokenizer.encode('word '.repeat(75)).cut, 0)
  const long = tokenizer.encode('word '.repeat(100))
  assert.equal(long.cut, 25)
  assert.equal(long.ids[76], 49407)
})

for (const [name, prompt] of Object.entries({
  'a lone surrogate': 'a \ud800 b',
  'a NUL': 'a \0 b',
  '20 kB without a space': 'x'.repeat(20_000),
  '20 kB of emoji': '🎬'.repeat(10_000),
})) {
  test(`${name} gives ids of the vocabulary`, () => {
    const { ids } = tokenizer.encode(prompt)
    assert.equal(ids.length, 77)
    assert.ok(ids.every((id) => id >= 0 && id < 49408))
  })
}

for (const [name, line] of Object.entries({
  'one part': 'th',
  'three parts': 't h e',
})) {
  test(`merges with ${name} are refused`, async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-tokenizer-'))
    t.after(() => rmSync(folder, { recursive: true }))
    cpSync(`${tinyCheckpoint}/tokenizer`, folder, { recursive: true })
    const merges = path.join(folder, 'merges.txt')
    writeFileSync(merges, `#version: 0.2\ni n\n${line}\n`)
    await assert.rejects(ClipTokenizer.load(folder, 77, 49408), { code: 'ERR_MODEL_CORRUPT', path: merges })
  })
}
