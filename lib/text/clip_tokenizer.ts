import path from 'node:path'
import { show, TorchreelError } from '../errors.js'
import { readJson, readText } from '../files/json.js'
import { BytePairEncoding } from './byte_pair_encoding.js'
import { FixedWords } from './fixed_words.js'
import type { AddedToken, ExtensibleTokenizer, TokenRows } from './tokenizer.js'

/** One prompt for the text encoder. */
export interface Tokens {
  /** (L): start, the prompt's tokens, end, padding. */
  readonly ids: Int32Array
  /** The number of tokens that did not fit and were cut off. */
  readonly cut: number
}

/** A special token in tokenizer_config.json and special_tokens_map.json: its text, or an object that holds it. */
type SpecialToken = string | { content: string }

/** CLIP's byte-pair encoding, from the vocab.json and merges.txt of a checkpoint. */
export class ClipTokenizer implements ExtensibleTokenizer {
  readonly #encoding: BytePairEncoding
  readonly #special: FixedWords
  readonly #start: number
  readonly #end: number
  readonly #padding: number
  /** L, ids per prompt. */
  readonly length: number
  /** The number of ids without added tokens. */
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
   * @param positions of the text encoder: ids per prompt at most
   * @param vocabularySize the number of tokens that the text encoder knows
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`
   */
  static async load(folder: string, positions: number, vocabularySize: number): Promise<ClipTokenizer> {
    const file = (name: string) => path.join(folder, name)
    const vocabulary = (await readJson(file('vocab.json'))) as Record<string, number>
    const config = (await readJson(file('tokenizer_config.json'))) as Record<string, SpecialToken>
    // The special tokens map wins: published checkpoints pad with its "!", not with the config's end token.
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
      const name = file('tokenizer_config.json')
      const received = config.model_max_length
      const message = `${name}: model_max_length must be an integer of 3 or more, got ${show(received)}`
      throw new TorchreelError('ERR_MODEL_CORRUPT', message, { path: name, received })
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

    // Special tokens are recognised anywhere in a prompt: a literal "!" becomes the padding's id.
    const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token']
    return new ClipTokenizer(
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

  /** (P, L), see {@link Tokenizer}. */
  encodeAll(prompts: readonly string[], name: string, warnings: string[]): TokenRows {
    const tokens = new Int32Array(prompts.length * this.length)
    for (const [index, prompt] of prompts.entries()) {
      const { ids, cut } = this.encode(prompt)
      tokens.set(ids, index * this.length)
      if (cut > 0)
        warnings.push(`${name}: the last ${cut} tokens were cut off, the model reads only ${ids.length - 2}`)
    }
    return { tokens, lengths: new Int32Array(prompts.length).fill(this.length) }
  }

  /** Whether this is a token of the vocabulary or an added one. */
  knows(token: string): boolean {
    const content = normalize(token)
    return this.#added.has(content) || [token, content].some((one) => this.#encoding.knows(one))
  }

  /** Added words are recognised anywhere in a prompt, in upper or lower case, also inside other words; the longest first. */
  setAddedTokens(tokens: readonly AddedToken[]): void {
    this.#added = new FixedWords(new Map(tokens.map(({ content, ids }) => [normalize(content), ids])))
  }
}

/**
 * Unicode's composed form, single spaces, lower case. Two details follow the reference and differ from JavaScript: white
 * space is the Unicode property (with U+0085, without U+FEFF), and each character is lowered alone (a final Σ gives σ).
 */
function normalize(prompt: string): string {
  const spaced = prompt.normalize('NFC').replace(/\p{White_Space}+/gu, ' ')
  return Array.from(spaced, (character) => character.toLowerCase()).join('')
}

/**
 * The ranks of merges, by their lines: both parts with a space between them.
 *
 * @param words of the vocabulary: if the file was cut, some words have no merge that makes them
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
