import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Tokenizer as BytePairTokenizer } from '@huggingface/tokenizers'
import { TorchreelError } from './errors.js'
import { readJson } from './json.js'

/** A prompt as the text encoder takes it. */
export interface Tokens {
  /** (L): start, the prompt's tokens, end, padding. */
  readonly ids: Int32Array
  /** How many tokens of the prompt did not fit and were cut off. */
  readonly cut: number
}

/** A special token in tokenizer_config.json and special_tokens_map.json: its text, or an object that holds it. */
type SpecialToken = string | { content: string; normalized?: boolean }

/** `normalized`: whether it is looked for after the prompt's white space and case are settled, or before. */
function described(token: SpecialToken): { content: string; normalized: boolean } {
  if (typeof token === 'string') return { content: token, normalized: false }
  return { content: token.content, normalized: token.normalized ?? false }
}

/** A word beside the vocabulary, and the ids that stand for it. */
export interface AddedToken {
  readonly content: string
  readonly ids: readonly number[]
}

/** CLIP's byte-pair encoding, from the vocab.json and merges.txt of a checkpoint. */
export class Tokenizer {
  readonly #tokenizer: BytePairTokenizer
  readonly #start: number
  readonly #end: number
  readonly #padding: number
  /** L, ids per prompt. */
  readonly length: number
  /** How many ids there are without added tokens. */
  readonly vocabularySize: number
  #added = new Map<string, readonly number[]>()
  #addedPattern: RegExp | undefined

  private constructor(
    tokenizer: BytePairTokenizer,
    start: number,
    end: number,
    padding: number,
    length: number,
    vocabularySize: number,
  ) {
    this.#tokenizer = tokenizer
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
    const merges = await readMerges(file('merges.txt'))

    const token = (name: string) => described(special[name] ?? config[name] ?? '<|endoftext|>')
    const id = (name: string): number => {
      const value = vocabulary[token(name).content]
      if (Number.isInteger(value)) return value as number
      throw new TorchreelError(
        'ERR_MODEL_CORRUPT',
        `${file('vocab.json')} lacks the ${name} ${token(name).content}`,
        { path: file('vocab.json') },
      )
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
    for (const [word, value] of Object.entries(vocabulary)) {
      if (Number.isInteger(value) && value >= 0 && value < vocabularySize) continue
      throw new TorchreelError(
        'ERR_MODEL_CORRUPT',
        `${file('vocab.json')} gives ${JSON.stringify(word)} the id ${value}; the text encoder knows ${vocabularySize}`,
        { path: file('vocab.json'), received: value },
      )
    }

    const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token']
    const specials = new Map(names.map((name) => [id(name), token(name)]))
    const { Tokenizer: BytePairTokenizer } = await import('@huggingface/tokenizers')
    const tokenizer = new BytePairTokenizer(
      {
        version: '1.0',
        // Special tokens stand for themselves wherever a prompt holds them: a literal "!" is the padding's id.
        added_tokens: Array.from(specials, ([id, { content, normalized }]) => ({
          id,
          content,
          special: true,
          normalized,
          lstrip: false,
          rstrip: false,
          single_word: false,
        })),
        normalizer: null,
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            {
              type: 'Split',
              pattern: {
                Regex:
                  "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\p{White_Space}\\p{L}\\p{N}]+",
              },
              behavior: 'Removed',
              invert: true,
            },
            { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
          ],
        },
        post_processor: null,
        decoder: null,
        model: {
          type: 'BPE',
          vocab: vocabulary,
          merges,
          unk_token: token('unk_token').content,
          continuing_subword_prefix: '',
          end_of_word_suffix: '</w>',
          fuse_unk: false,
        },
      },
      {},
    )
    return new Tokenizer(tokenizer, id('bos_token'), id('eos_token'), id('pad_token'), length, vocabularySize)
  }

  encode(prompt: string): Tokens {
    const text = normalize(prompt)
    const parts = this.#addedPattern ? text.split(this.#addedPattern) : [text]
    const ids = parts.flatMap(
      (part) =>
        this.#added.get(part) ??
        (part === '' ? [] : this.#tokenizer.encode(part, { add_special_tokens: false }).ids),
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
    return (
      this.#added.has(content) ||
      [token, content].some((one) => this.#tokenizer.token_to_id(one) !== undefined)
    )
  }

  /**
   * Words that stand for ids of their own wherever a prompt holds them, within other words too and in any case of
   * letters; the longest that fits. Replaces those that were added before.
   */
  setAddedTokens(tokens: readonly AddedToken[]): void {
    this.#added = new Map(tokens.map(({ content, ids }) => [normalize(content), ids]))
    const longestFirst = [...this.#added.keys()].sort((a, b) => b.length - a.length)
    const escaped = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'))
    this.#addedPattern = escaped.length > 0 ? new RegExp(`(${escaped.join('|')})`) : undefined
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

async function readMerges(file: string): Promise<string[]> {
  let content: string
  try {
    content = await readFile(file, 'utf8')
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} cannot be read`, { path: file, cause: error })
  }
  return content.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#version'))
}
