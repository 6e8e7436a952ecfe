// Prompts become the token ids of T5Tokenizer (transformers 5), and a tokenizer.json of a stranger is refused or gives ids of
// the vocabulary. PROPERTY_RUNS says how often files are changed.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import { TorchreelError } from 'torchreel'
import { UnigramModel } from '#dist/text/unigram_model.js'
import { UnigramTokenizer } from '#dist/text/unigram_tokenizer.js'
import { repository } from '../support/fixtures.js'

interface Fixture {
  tokenizer: {
    added_tokens: object[]
    model: { vocab: [string, number][] }
    [key: string]: unknown
  }
  config: Record<string, unknown>
  /** What cleaning makes of a text, and its ids, at most 512. */
  prompts: { text: string; clean: string; ids: number[] }[]
  /** Texts of random pieces, characters, white space and special tokens. */
  random: { text: string; ids: number[] }[]
}

const fixture = JSON.parse(readFileSync(`${repository}test/fixtures/wan_tokens.json`, 'utf8')) as Fixture
const size = 256384
const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-unigram-'))
after(() => rmSync(scratch, { recursive: true }))

let folders = 0
function folderOf(tokenizer: unknown, config: unknown = fixture.config): string {
  const folder = path.join(scratch, String(folders++))
  mkdirSync(folder)
  writeFileSync(
    path.join(folder, 'tokenizer.json'),
    typeof tokenizer === 'string' ? tokenizer : JSON.stringify(tokenizer),
  )
  if (config !== undefined) writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  return folder
}

/** The fixture's tokenizer with other values in its model. */
const withModel = (model: object) => ({
  ...fixture.tokenizer,
  model: { ...fixture.tokenizer.model, ...model },
})

const tokenizer = await UnigramTokenizer.load(folderOf(fixture.tokenizer), 512, size)

describe('ids are those of the reference', () => {
  for (const { clean, ids } of fixture.prompts) {
    test(JSON.stringify(clean.slice(0, 40)), () => {
      assert.deepEqual(Array.from(tokenizer.encode(clean).ids), ids)
    })
  }

  test('random texts', () => {
    for (const { text, ids } of fixture.random) {
      assert.deepEqual(Array.from(tokenizer.encode(text).ids), ids, JSON.stringify(text))
    }
  })

  test('whatever the file says of unknown characters and of splitting: T5 has its own rules', async () => {
    const file = {
      ...withModel({ unk_id: 3, byte_fallback: true }),
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
      normalizer: { type: 'Strip', strip_left: true, strip_right: true },
      post_processor: null,
    }
    const other = await UnigramTokenizer.load(folderOf(file), 512, size)
    for (const { text, ids } of fixture.random)
      assert.deepEqual(Array.from(other.encode(text).ids), ids, JSON.stringify(text))
  })

  test('a file without added tokens and configuration knows the special tokens', async () => {
    const bare = await UnigramTokenizer.load(
      folderOf({ model: fixture.tokenizer.model }, undefined),
      512,
      size,
    )
    assert.deepEqual(Array.from(bare.encode('<pad> a</s>b<unk>').ids), [0, 4, 10, 1, 61, 3, 1])
  })
})

describe('rows', () => {
  test('prompts of several lengths are padded', () => {
    const warnings: string[] = []
    const rows = tokenizer.encodeAll(['a panda', ''], 'prompt', warnings)
    assert.equal(rows.tokens.length, 2 * 512)
    assert.deepEqual(Array.from(rows.tokens.subarray(0, 6)), [4, 10, 36, 108, 1, 0])
    assert.deepEqual(Array.from(rows.tokens.subarray(512, 514)), [1, 0])
    assert.deepEqual(Array.from(rows.lengths), [5, 1])
    assert.deepEqual(warnings, [])
  })

  test('what does not fit is cut, counted and said', () => {
    assert.equal(tokenizer.encode('x'.repeat(510)).cut, 0) // and the mark that begins the word
    const { ids, cut } = tokenizer.encode('x'.repeat(600))
    assert.equal(ids.length, 512)
    assert.equal(ids[511], 1)
    assert.equal(cut, 90)
    const warnings: string[] = []
    tokenizer.encodeAll(['a', 'x'.repeat(600)], 'negativePrompt', warnings)
    assert.deepEqual(warnings, ['negativePrompt: the last 90 tokens were cut off, since the model reads 511'])
  })

  for (const [name, prompt] of Object.entries({
    'a lone surrogate': 'a \ud800 b',
    'a NUL': 'a \0 b',
    '200 kB without a space': 'x'.repeat(200_000),
    '200 kB of emoji': '🐼'.repeat(50_000),
    '200 kB of unknown characters': '🦄'.repeat(50_000),
  })) {
    test(`${name} gives ids of the vocabulary`, () => {
      const { ids } = tokenizer.encode(prompt)
      assert.ok(ids.length <= 512 && ids.every((id) => id >= 0 && id < 159))
    })
  }
})

describe('a unigram model', () => {
  const model = (...pieces: [string, number][]) =>
    new UnigramModel([['<pad>', 0], ['</s>', 0], ['<s>', 0], ...pieces], 2)

  test('takes the pieces of the largest sum, among all that there are', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '猫', '🐼'), minLength: 1, maxLength: 3 })
    const score = fc.integer({ min: -64, max: 8 }).map((value) => value / 8) // sums are exact
    const least = (pieces: [string, number][]) => Math.min(0, ...pieces.map(([, one]) => one)) - 10
    const split = (text: string, pieces: [string, number][]): number =>
      text === ''
        ? 0
        : Math.max(
            ...pieces
              .filter(([piece]) => text.startsWith(piece))
              .map(([piece, one]) => one + split(text.slice(piece.length), pieces)),
          )
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(letters, score), { selector: ([piece]) => piece, maxLength: 12 }),
        fc.string({ unit: fc.constantFrom('a', 'b', '猫', '🐼'), maxLength: 9 }),
        (pieces, text) => {
          const single = ['a', 'b', '猫', '🐼'].filter(
            (letter) => !pieces.some(([piece]) => piece === letter),
          )
          const unknown = single.map((letter): [string, number] => [letter, least(pieces)])
          const ids = model(...pieces).encode(text)
          // Where no piece was unknown, the ids say which sum was reached.
          if (ids.includes(2)) return
          const reached = ids.reduce((sum, id) => sum + (pieces[id - 3]?.[1] as number), 0)
          assert.equal(reached, split(text, [...pieces, ...unknown]))
          assert.equal(ids.map((id) => pieces[id - 3]?.[0]).join(''), text)
        },
      ),
    )
  })

  test('of equal sums takes the longer last piece', () => {
    assert.deepEqual(model(['a', -1], ['ab', -1], ['ba', -1], ['b', -1]).encode('aba'), [3, 5])
  })

  test('of equal pieces takes the last', () => {
    assert.deepEqual(model(['a', -1], ['a', -9], ['aa', -15]).encode('aa'), [5])
  })

  test('unknown characters in a row are one id, or the piece that they make', () => {
    assert.deepEqual(model(['a', -1]).encode('🦄🦄aé'), [2, 3, 2])
    // "xy" scores less than an unknown "x" and an unknown "y".
    assert.deepEqual(model(['a', 100], ['xy', 30]).encode('axya'), [3, 4, 3])
  })
})

describe('files of strangers', () => {
  const { vocab } = fixture.tokenizer.model
  const token = { id: 0, content: '<pad>', single_word: false, normalized: false }
  const refusals: [name: string, code: string, file: unknown, config?: unknown][] = [
    ['no JSON', 'ERR_MODEL_CORRUPT', '{"model": '],
    ['a list', 'ERR_MODEL_CORRUPT', []],
    ['no model', 'ERR_MODEL_INCOMPATIBLE', { ...fixture.tokenizer, model: undefined }],
    ['a model of another type', 'ERR_MODEL_INCOMPATIBLE', withModel({ type: 'BPE' })],
    [
      'a precompiled normalizer',
      'ERR_MODEL_INCOMPATIBLE',
      { ...fixture.tokenizer, normalizer: { type: 'Precompiled', precompiled_charsmap: 'ALQCAACEAAA=' } },
    ],
    [
      'a precompiled normalizer among others',
      'ERR_MODEL_INCOMPATIBLE',
      {
        ...fixture.tokenizer,
        normalizer: { type: 'Sequence', normalizers: [null, { type: 'Precompiled' }] },
      },
    ],
    ['no vocabulary', 'ERR_MODEL_CORRUPT', withModel({ vocab: undefined })],
    ['a vocabulary that is an object', 'ERR_MODEL_CORRUPT', withModel({ vocab: { a: 1 } })],
    ['an empty vocabulary', 'ERR_MODEL_CORRUPT', withModel({ vocab: [] })],
    ['too few pieces for an unknown one', 'ERR_MODEL_CORRUPT', withModel({ vocab: vocab.slice(0, 2) })],
    ['no closing token', 'ERR_MODEL_CORRUPT', { model: { type: 'Unigram', vocab: vocab.slice(4) } }],
    ['an empty piece', 'ERR_MODEL_CORRUPT', withModel({ vocab: [...vocab, ['', -1]] })],
    ['a piece that is a number', 'ERR_MODEL_CORRUPT', withModel({ vocab: [...vocab, [5, -1]] })],
    ['half a surrogate pair', 'ERR_MODEL_CORRUPT', withModel({ vocab: [...vocab, ['\udc00', -1]] })],
    ['a score that is text', 'ERR_MODEL_CORRUPT', withModel({ vocab: [...vocab, ['x', '-1']] })],
    ['no score', 'ERR_MODEL_CORRUPT', withModel({ vocab: [...vocab, ['x']] })],
    ['null for a piece', 'ERR_MODEL_CORRUPT', withModel({ vocab: [...vocab, null] })],
    [
      'an infinite score',
      'ERR_MODEL_CORRUPT',
      JSON.stringify(fixture.tokenizer).replace('["n",-', '["n",-1e999'),
    ],
    ['added tokens that are no list', 'ERR_MODEL_CORRUPT', { ...fixture.tokenizer, added_tokens: 5 }],
    [
      'an empty added token',
      'ERR_MODEL_CORRUPT',
      { ...fixture.tokenizer, added_tokens: [{ ...token, content: '' }] },
    ],
    [
      'an added token without id',
      'ERR_MODEL_CORRUPT',
      { ...fixture.tokenizer, added_tokens: [{ content: '<x>' }] },
    ],
    [
      'an added token past the embeddings',
      'ERR_MODEL_CORRUPT',
      { ...fixture.tokenizer, added_tokens: [{ id: size, content: '<x>' }] },
    ],
    [
      'a negative added token',
      'ERR_MODEL_CORRUPT',
      { ...fixture.tokenizer, added_tokens: [{ id: -1, content: '<x>' }] },
    ],
    [
      'an added token of whole words',
      'ERR_MODEL_INCOMPATIBLE',
      { ...fixture.tokenizer, added_tokens: [{ ...token, single_word: true }] },
    ],
    [
      'a configuration whose closing token is no token',
      'ERR_MODEL_CORRUPT',
      fixture.tokenizer,
      { eos_token: 'nowhere' },
    ],
    [
      'a configuration whose closing token is a number',
      'ERR_MODEL_CORRUPT',
      fixture.tokenizer,
      { eos_token: 5 },
    ],
  ]
  for (const [name, code, file, config] of refusals) {
    test(`${name}: refused`, async () => {
      const folder = folderOf(file, config)
      await assert.rejects(UnigramTokenizer.load(folder, 512, size), (error: unknown) => {
        assert.ok(error instanceof TorchreelError)
        assert.equal(error.code, code)
        assert.equal(error.path, path.join(folder, 'tokenizer.json'))
        assert.match(error.message, /tokenizer\.json \w/)
        return true
      })
    })
  }

  test('more pieces than the text encoder has embeddings: refused', async () => {
    const loading = UnigramTokenizer.load(folderOf(fixture.tokenizer), 512, 158)
    await assert.rejects(loading, { code: 'ERR_MODEL_CORRUPT', message: /159 pieces.*158/ })
  })

  test('a missing file: not found', async () => {
    await assert.rejects(UnigramTokenizer.load(scratch, 512, size), { code: 'ERR_MODEL_NOT_FOUND' })
  })

  test('names of every object are no pieces', async () => {
    const file = withModel({ vocab: [...vocab, ['__proto__', -1]] })
    const { ids } = (await UnigramTokenizer.load(folderOf(file), 512, size)).encode('constructor __proto__')
    assert.equal(Array.from(ids).at(-2), vocab.length)
  })

  test('files with changed bytes: refused, or ids of the vocabulary', async () => {
    const text = JSON.stringify(fixture.tokenizer)
    const insert = fc.oneof(
      fc.string(),
      fc.json(),
      fc.constantFrom('', '"', '{', ',', '1e99', 'null', '</s>', '\\ud800', '["",0],', 'NaN'),
    )
    const change = fc.tuple(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 0, max: 40 }),
      insert,
    )
    const folder = folderOf(text)
    await fc.assert(
      fc.asyncProperty(change, fc.string({ unit: 'binary' }), async ([at, remove, more], prompt) => {
        const from = Math.floor(at * text.length)
        writeFileSync(
          path.join(folder, 'tokenizer.json'),
          text.slice(0, from) + more + text.slice(from + remove),
        )
        try {
          const { ids } = (await UnigramTokenizer.load(folder, 512, size)).encode(
            `${prompt} a red </s> circle`,
          )
          for (const id of ids) assert.ok(Number.isInteger(id) && id >= 0 && id < size, `${id}`)
        } catch (error) {
          assert.ok(error instanceof TorchreelError, (error as Error).stack)
          assert.match(error.code, /^ERR_MODEL_(CORRUPT|INCOMPATIBLE)$/)
        }
      }),
      { numRuns: Number(process.env.PROPERTY_RUNS ?? 200) },
    )
  })
})
