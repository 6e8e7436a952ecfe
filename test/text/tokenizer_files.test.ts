// A tokenizer's files are data from strangers: strange ones (test/fixtures/tokenizer_files, each in place of the file that its
// folder is named after), and those with bytes changed. PROPERTY_RUNS says how often, FUZZ_SECONDS how long at most.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { TorchreelError } from 'torchreel'
import { ClipTokenizer } from '#dist/text/clip_tokenizer.js'
import { repository } from '../support/fixtures.js'
import { tally } from '../support/tally.js'

const seconds = process.env.FUZZ_SECONDS
const runs = seconds === undefined ? Number(process.env.PROPERTY_RUNS ?? 200) : 1e9
const size = 377
const good = `${repository}models/shapes/tokenizer`
const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-tokenizer-'))
cpSync(good, folder, { recursive: true })
after(() => rmSync(folder, { recursive: true }))

const strange = `${repository}test/fixtures/tokenizer_files`
const files = readdirSync(strange)
const corpus = files.flatMap((file) => [
  { file, text: readFileSync(path.join(good, file), 'utf8') },
  ...readdirSync(path.join(strange, file)).map((name) => {
    return { file, text: readFileSync(path.join(strange, file, name), 'utf8') }
  }),
])

/** Loads the folder with other texts in some of its files, and encodes a prompt. */
async function refusedOrIds(texts: readonly { file: string; text: string }[], prompt: string): Promise<void> {
  for (const { file, text } of texts) writeFileSync(path.join(folder, file), text)
  try {
    const tokenizer = await ClipTokenizer.load(folder, 24, size)
    const { ids } = tokenizer.encode(prompt)
    assert.equal(ids.length, tokenizer.length)
    for (const id of ids) assert.ok(Number.isInteger(id) && id >= 0 && id < size, `${id}`)
  } catch (error) {
    const what = `${JSON.stringify(texts).slice(0, 2000)} ${(error as Error).stack}`
    assert.ok(error instanceof TorchreelError, what)
    assert.equal(error.code, 'ERR_MODEL_CORRUPT', what)
  } finally {
    for (const { file } of texts) cpSync(path.join(good, file), path.join(folder, file))
  }
}

test('59: strange files: refused, or ids of the vocabulary', async (t) => {
  for (const entry of corpus) {
    for (const prompt of ['', 'a big red circle', 'constructor __proto__ 🎬', '\0'])
      await refusedOrIds([entry], prompt)
  }
  tally(t, 'bad inputs tried', 4 * corpus.length)
})

test('59, 88: bytes of them changed', async (t) => {
  const share = fc.double({ min: 0, max: 1, noNaN: true })
  const insert = fc.oneof(
    fc.string(),
    fc.json(),
    fc.constantFrom('', '"', '{', ',', '1e99', 'null', '<|endoftext|>', '\n\n', '\\ud800', '__proto__'),
  )
  const changed = fc
    .tuple(fc.constantFrom(...corpus), share, fc.integer({ min: 0, max: 40 }), insert)
    .map(([{ file, text }, at, remove, more]) => {
      const from = Math.floor(at * text.length)
      return { file, text: text.slice(0, from) + more + text.slice(from + remove) }
    })
  let tried = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(changed, { minLength: 1, maxLength: 3 }),
      fc.string(),
      async (texts, prompt) => {
        tried++
        await refusedOrIds(texts, prompt)
      },
    ),
    { numRuns: runs, ...(seconds !== undefined && { interruptAfterTimeLimit: 1000 * Number(seconds) }) },
  )
  tally(t, 'bad inputs tried', tried)
})
