import path from 'node:path'
import { show, TorchreelError } from '../errors.js'
import { readJson, readText } from '../files/json.js'
import { BytePairEncoding } from './byte_pair_encoding.js'
import { FixedWords } from './fixed_words.js'

/** A prompt as the text encoder takes it. */
export interface Tokens {
  /** (L): start, the prompt's tokens, end, padding. */
  readonly ids: Int32Array
  /** How many tokens of the prompt did not fit and were cut off. */
  readonly cut: number
}

/** A special token in tokenizer_config.json and special_tokens_map.json: its text, or an object that holds it. */
type SpecialToken = string | { content: string }

/** A word beside the vocabulary, and the ids that stand for it. */
export interface AddedToken {
  readonly content: string
  readonly ids: readonly number[]
}

/** CLIP's byte-pair encoding, from the vocab.json and merges.txt of a checkpoint. */
export class Tokenizer {
  readonly #encoding: BytePairEncoding
  readonly #special: FixedWords
  readonly #start: number
  readonly #end: number
  readonly #padding: number
  /** L, ids per prompt. */
  readonly length: number
  /** How many ids there are without added tokens. */
  readonly vocabularySize: number
  #added = new FixedWords(new Map())

  private constructor(
    encoding: BytePairEncoding,
    special: FixedWords,
    start: number,
    end: number,
    padding: number,
    length: number,
    vocabularySize: number,
  ) {
    this.#encoding = encoding
    this.#special = special
    this.#start = start
    this.#end = end
    this.#padding = padding
    this.length = length
    this.vocabularySize = vocabularySize
  }

  /**
   * @param folder the checkpoint's `tokenizer/`
   * @param positions how many positions the text encoder has
   * @param vocabularySize how many tokens it knows
   */
  static async load(folder: string, positions: number, vocabularySize: number): Promise<Tokenizer> {
    const file = (name: string) => path.join(folder, name)
    const vocabulary = (await readJson(file('vocab.json'))) as Record<string, number>
    const config = (await readJson(file('tokenizer_config.json'))) as Record<string, SpecialToken>
    // The special tokens map comes last: published checkpoints pad with its "!", not with the config's end token.
    const special = (await readJson(file('special_tokens_map.json'), {})) as Record<string, SpecialToken>
    const merges = await readMerges(file('merges.txt'), Object.keys(vocabulary))

    const content = (name: string) => {
      const token = special[name] ?? config[name] ?? '<|endoftext|>'
      return typeof token === 'string' ? token : token.content
    }
    const id = (name: string): number => {
      const text: unknown = content(name)
      const value = typeof text === 'string' ? vocabulary[text] : undefined
      if (Number.isInteger(value)) return value as number
      throw new TorchreelError('ERR_MODEL_CORRUPT', `${file('vocab.json')} lacks the ${name} ${show(text)}`, {
        path: file('vocab.json'),
      })
    }
    // transformers writes a huge number where there is no limit.
    const length = Math.min(positions, Number(config.model_max_length ?? positions))
    if (!Number.isInteger(length) || length < 3) {
      throw new TorchreelError(
        'ERR_MODEL_CORRUPT',
        `${file('tokenizer_config.json')} has a bad model_max_length`,
        {
          path: file('tokenizer_config.json'),
          received: config.model_max_length,
        },
      )
    }
    for (const word in vocabulary) {
      const value = vocabulary[word] as number
      if (Number.isInteger(value) && value >= 0 && value < vocabularySize) continue
      throw new TorchreelError(
        'ERR_MODEL_CORRUPT',
        `${file('vocab.json')} gives ${JSON.stringify(word)} the id ${show(value)}; the text encoder knows ${vocabularySize}`,
        { path: file('vocab.json'), received: value },
      )
    }

    // Special tokens stand for themselves wherever a prompt holds them: a literal "!" is the padding's id.
    const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token']
    return new Tokenizer(
      new BytePairEncoding(vocabulary, merges, id('unk_token')),
      new FixedWords(new Map(names.map((name) => [content(name), [id(name)]]))),
      id('bos_token'),
      id('eos_token'),
      id('pad_token'),
      length,
      vocabularySize,
    )
  }

  encode(prompt: string): Tokens {
    const ids = this.#added.encode(normalize(prompt), (text) =>
      this.#special.encode(text, (words) => this.#encoding.encode(words)),
    )
    const kept = ids.slice(0, this.length - 2)
    const row = new Int32Array(this.length).fill(this.#padding)
    row.set([this.#start, ...kept, this.#end])
    return { ids: row, cut: ids.length - kept.length }
  }

  /**
   * The ids of all prompts, (P, L), one row after the other.
   *
   * @param warnings takes one for each prompt that was cut, under the name of the option that it came by
   */
  encodeAll(prompts: readonly string[], name: string, warnings: string[]): Int32Array {
    const rows = new Int32Array(prompts.length * this.length)
    for (const [index, prompt] of prompts.entries()) {
      const { ids, cut } = this.encode(prompt)
      rows.set(ids, index * this.length)
      if (cut > 0)
        warnings.push(`${name}: the last ${cut} tokens were cut off, since the model reads ${ids.length - 2}`)
    }
    return rows
  }

  /** Whether it is a token of the vocabulary or an added one. */
  knows(token: string): boolean {
    const content = normalize(token)
    return this.#added.has(content) || [token, content].some((one) => this.#encoding.knows(one))
  }

  /**
   * Words that stand for ids of their own wherever a prompt holds them, within other words too and in any case of
   * letters; the longest that fits. Replaces those that were added before.
   */
  setAddedTokens(tokens: readonly AddedToken[]): void {
    this.#added = new FixedWords(new Map(tokens.map(({ content, ids }) => [normalize(content), ids])))
  }
}

/**
 * Unicode's composed form, single spaces, lower case. As the reference does it and JavaScript's own ways do not: white
 * space by the Unicode property (U+0085 is, U+FEFF is not), and each character lowered alone (a final Σ is no ς).
 */
function normalize(prompt: string): string {
  const spaced = prompt.normalize('NFC').replace(/\p{White_Space}+/gu, ' ')
  return Array.from(spaced, (character) => character.toLowerCase()).join('')
}

/**
 * The ranks of merges, by their lines: both parts with a space between them.
 *
 * @param words of the vocabulary: where the file was cut, some have no merge that makes them
 */
async function readMerges(file: string, words: readonly string[]): Promise<Map<string, number>> {
  const content = await readText(file)
  const ranks = new Map<string, number>()
  for (let begin = 0, end = 0; begin < content.length; begin = end + 1) {
    end = content.indexOf('\n', begin)
    if (end < 0) end = content.length
    const line = content.slice(begin, end)
    if (line.startsWith('#version') || line.trim() === '') continue
    if (/^\S+ \S+$/.test(line)) ranks.set(line, ranks.size)
    else {
      throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} has the line ${JSON.stringify(line)}`, {
        path: file,
        expected: 'two parts with a space between them',
        received: line,
      })
    }
  }
  // Special tokens, which no merge makes, begin with a bracket.
  const letters = (word: string) => word.length - (word.endsWith('</w>') ? 4 : 0)
  const made = words.filter((word) => letters(word) > 1 && word[0] !== '<' && word[0] !== '[').length
  if (ranks.size >= made) return ranks
  throw new TorchreelError(
    'ERR_MODEL_CORRUPT',
    `${file} has ${ranks.size} merges for the ${made} words of vocab.json that need one`,
    { path: file },
  )
}
