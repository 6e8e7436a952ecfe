import path from 'node:path'
import { show, TorchreelError } from '../errors.js'
import { BytePairEncoding } from './byte_pair_encoding.js'
import { readClipFiles } from './clip_files.js'
import { FixedWords } from './fixed_words.js'
import type { AddedToken, ExtensibleTokenizer, TokenRows } from './tokenizer.js'

/** One prompt for the text encoder. */
export interface Tokens {
  /** (L): start, the prompt's tokens, end, padding. */
  readonly ids: Int32Array
  /** The number of tokens that did not fit and were cut off. */
  readonly cut: number
}

/** CLIP's byte-pair encoding, from the files of a checkpoint. */
export class ClipTokenizer implements ExtensibleTokenizer {
  readonly #encoding: BytePairEncoding
  /** Tokens that are looked for in a prompt as it was given. */
  readonly #exact: FixedWords
  /** Tokens that are looked for in the normalized prompt. */
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
    exact: FixedWords,
    special: FixedWords,
    start: number,
    end: number,
    padding: number,
    length: number,
    vocabularySize: number,
  ) {
    this.#encoding = encoding
    this.#exact = exact
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
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`; `ERR_MODEL_INCOMPATIBLE` for another kind of tokenizer
   */
  static async load(folder: string, positions: number, vocabularySize: number): Promise<ClipTokenizer> {
    const { file, vocabulary, merges, added, special, maxLength } = await readClipFiles(folder)
    // transformers writes a huge number where there is no limit.
    const length = Math.min(positions, Number(maxLength ?? positions))
    if (!Number.isInteger(length) || length < 3) {
      const config = path.join(folder, 'tokenizer_config.json')
      const message = `${config}: model_max_length must be an integer of 3 or more, got ${show(maxLength)}`
      throw new TorchreelError('ERR_MODEL_CORRUPT', message, { path: config, received: maxLength })
    }
    const requireId = (word: string, value: unknown) => {
      if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < vocabularySize) return
      throw new TorchreelError(
        'ERR_MODEL_CORRUPT',
        `${file} gives ${JSON.stringify(word)} the id ${show(value)}; the text encoder knows ${vocabularySize}`,
        { path: file, received: value },
      )
    }
    for (const word in vocabulary) requireId(word, vocabulary[word])
    const exact = new Map<string, [number]>()
    const inNormalized = new Map<string, [number]>()
    for (const { content, id, normalized } of added) {
      const own = Object.hasOwn(vocabulary, content) ? (vocabulary[content] as number) : id
      requireId(content, own)
      if (normalized) inNormalized.set(normalize(content), [own])
      else exact.set(content, [own])
    }
    // Special tokens are recognised anywhere in a prompt: a literal "!" becomes the padding's id.
    const id = (name: string): number => {
      const text = special(name)
      const known = typeof text === 'string' ? text : ''
      const [value] = Object.hasOwn(vocabulary, known)
        ? [vocabulary[known]]
        : (exact.get(known) ?? inNormalized.get(normalize(known)) ?? [])
      if (value === undefined)
        throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} lacks the ${name} ${show(text)}`, {
          path: file,
        })
      exact.delete(known)
      inNormalized.set(known, [value])
      return value
    }
    const [start, end, unknown, padding] = [
      id('bos_token'),
      id('eos_token'),
      id('unk_token'),
      id('pad_token'),
    ]
    return new ClipTokenizer(
      new BytePairEncoding(vocabulary, merges, unknown),
      new FixedWords(exact),
      new FixedWords(inNormalized),
      start,
      end,
      padding,
      length,
      vocabularySize,
    )
  }

  encode(prompt: string): Tokens {
    const ids = this.#exact.encode(prompt, (text) =>
      this.#added.encode(normalize(text), (words) =>
        this.#special.encode(words, (more) => this.#encoding.encode(more)),
      ),
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
    return (
      this.#exact.has(token) ||
      [this.#added, this.#special].some((words) => words.has(content)) ||
      [token, content].some((one) => this.#encoding.knows(one))
    )
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
