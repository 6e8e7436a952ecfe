import path from 'node:path'
import { show, TorchreelError, type TorchreelErrorCode } from '../errors.js'
import { readJson } from '../files/json.js'
import { FixedWords } from './fixed_words.js'
import type { Tokenizer, TokenRows } from './tokenizer.js'
import { UnigramModel } from './unigram_model.js'

/** The mark that begins a word. */
const wordStart = '▁'

/** The place in T5's vocabulary of `<unk>`, which the reference takes as the unknown id of every T5 tokenizer. */
const unknownId = 2

/** The tokens that the configuration of a T5 tokenizer names, and their texts where it does not. */
const namedTokens = { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' } as const

/** A prompt as the text encoder takes it. */
export interface UnigramTokens {
  /** (L): the prompt's tokens and the closing one, without padding. */
  readonly ids: Int32Array
  /** How many tokens of the prompt did not fit and were cut off. */
  readonly cut: number
}

/**
 * The tokenizer of the T5 text encoders, UMT5 among them, from a tokenizer.json.
 *
 * Of that file, it takes what the reference (`T5Tokenizer` of transformers 5) takes: the pieces with their scores and the
 * added tokens. All else is T5's own, whatever the file says: text is split at white space, each word begins with "▁", no
 * piece stands for a byte, and `</s>` closes the prompt. A run of characters that are in no piece becomes one id, 2. In T5's
 * vocabulary that is `<unk>`; in UMT5's it is `<s>`, and `<unk>` is 3. transformers 4 gave 3, the file's own `unk_id`.
 */
export class UnigramTokenizer implements Tokenizer {
  readonly #model: UnigramModel
  readonly #added: FixedWords
  readonly #closing: number
  readonly #padding: number
  /** L: the most ids of a prompt, with the closing one. */
  readonly length: number

  private constructor(
    model: UnigramModel,
    added: FixedWords,
    closing: number,
    padding: number,
    length: number,
  ) {
    this.#model = model
    this.#added = added
    this.#closing = closing
    this.#padding = padding
    this.length = length
  }

  /**
   * @param folder the checkpoint's `tokenizer/`
   * @param length the most ids of a prompt, with the closing one
   * @param vocabularySize the number of rows in the text encoder's embedding table
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`; `ERR_MODEL_INCOMPATIBLE` for another kind of tokenizer
   */
  static async load(folder: string, length: number, vocabularySize: number): Promise<UnigramTokenizer> {
    const file = path.join(folder, 'tokenizer.json')
    const content = await readJson(file)
    const config = await readJson(path.join(folder, 'tokenizer_config.json'), {})
    checkKind(file, content)
    const vocabulary = readVocabulary(file, content, vocabularySize)
    const model = new UnigramModel(vocabulary, unknownId)
    const added = readAddedTokens(file, content, model, vocabularySize)

    const named = (name: keyof typeof namedTokens): number | undefined => {
      const token = config[name] ?? namedTokens[name]
      const text = typeof token === 'string' ? token : (token as { content?: unknown }).content
      const id = typeof text === 'string' ? (added.get(text) ?? model.id(text)) : undefined
      if (id !== undefined) added.set(text as string, id)
      return id
    }
    named('unk_token')
    const padding = named('pad_token') ?? 0
    const closing = named('eos_token')
    if (closing === undefined) throw fault('ERR_MODEL_CORRUPT', file, 'has no token that closes a prompt')
    const words = new FixedWords(new Map([...added].map(([token, id]) => [token, [id]])))
    return new UnigramTokenizer(model, words, closing, padding, length)
  }

  /** @param prompt cleaned already, where the model's pipeline cleans prompts */
  encode(prompt: string): UnigramTokens {
    const ids = this.#added.encode(prompt.toWellFormed(), (text) => this.#encodeWords(text))
    const kept = ids.slice(0, this.length - 1)
    return { ids: Int32Array.from([...kept, this.#closing]), cut: ids.length - kept.length }
  }

  encodeAll(prompts: readonly string[], name: string, warnings: string[]): TokenRows {
    const tokens = new Int32Array(prompts.length * this.length).fill(this.#padding)
    const lengths = new Int32Array(prompts.length)
    for (const [index, prompt] of prompts.entries()) {
      const { ids, cut } = this.encode(prompt)
      tokens.set(ids, index * this.length)
      lengths[index] = ids.length
      if (cut > 0)
        warnings.push(
          `${name}: the last ${cut} tokens were cut off, since the model reads ${this.length - 1}`,
        )
    }
    return { tokens, lengths }
  }

  #encodeWords(text: string): readonly number[] {
    return text
      .split(/\p{White_Space}+/u)
      .filter((word) => word !== '')
      .map((word) => (word.startsWith(wordStart) ? word : wordStart + word))
      .flatMap((word) => word.split(/(?=▁)/u))
      .flatMap((word) => this.#model.encode(word))
  }
}

/** Refuses tokenizers of other kinds, and the one part of a T5 tokenizer that UMT5 does not have. */
function checkKind(file: string, content: Record<string, unknown>): void {
  const { type } = asObject(content.model)
  if (type !== 'Unigram') {
    throw fault(
      'ERR_MODEL_INCOMPATIBLE',
      file,
      `holds ${typeof type === 'string' ? `a ${show(type)} model` : 'no model'}; this text encoder needs a "Unigram" one`,
    )
  }
  const normalizer = asObject(content.normalizer)
  const parts = Array.isArray(normalizer.normalizers) ? normalizer.normalizers : [normalizer]
  if (parts.map(asObject).some((part) => part.type === 'Precompiled')) {
    throw fault(
      'ERR_MODEL_INCOMPATIBLE',
      file,
      'normalizes text by a precompiled table, as T5 does and UMT5 does not; torchreel cannot read that table',
    )
  }
}

function readVocabulary(
  file: string,
  content: Record<string, unknown>,
  vocabularySize: number,
): readonly (readonly [string, number])[] {
  const { vocab } = asObject(content.model)
  if (!Array.isArray(vocab)) throw fault('ERR_MODEL_CORRUPT', file, 'has no vocabulary')
  const wrong = vocab.findIndex((entry) => {
    if (!Array.isArray(entry) || entry.length !== 2) return true
    const [piece, score] = entry
    return typeof piece !== 'string' || piece === '' || !piece.isWellFormed() || !Number.isFinite(score)
  })
  if (wrong >= 0) {
    throw fault(
      'ERR_MODEL_CORRUPT',
      file,
      `has the entry ${JSON.stringify(vocab[wrong])?.slice(0, 80)} in its vocabulary, which is no piece with a score`,
    )
  }
  if (vocab.length > unknownId && vocab.length <= vocabularySize) return vocab as [string, number][]
  throw fault(
    'ERR_MODEL_CORRUPT',
    file,
    `has ${vocab.length} pieces; the text encoder knows ${vocabularySize}`,
  )
}

/** The ids of the tokens that are looked for before the text is split into words. */
function readAddedTokens(
  file: string,
  content: Record<string, unknown>,
  model: UnigramModel,
  vocabularySize: number,
): Map<string, number> {
  const tokens = content.added_tokens ?? []
  if (!Array.isArray(tokens)) throw fault('ERR_MODEL_CORRUPT', file, 'has added tokens that are no list')
  return new Map(
    tokens.map((entry) => {
      const { content: text, id: own, single_word: singleWord } = asObject(entry)
      const id = typeof text === 'string' ? (model.id(text) ?? own) : own
      if (
        typeof text !== 'string' ||
        text === '' ||
        !Number.isInteger(id) ||
        (id as number) < 0 ||
        (id as number) >= vocabularySize
      ) {
        throw fault(
          'ERR_MODEL_CORRUPT',
          file,
          `has the added token ${show(text)} with the id ${show(id)}; the text encoder knows ${vocabularySize}`,
        )
      }
      if (singleWord === true) {
        throw fault(
          'ERR_MODEL_INCOMPATIBLE',
          file,
          `has the added token ${show(text)} for whole words only, which torchreel cannot tell apart`,
        )
      }
      return [text, id as number] as const
    }),
  )
}

function fault(code: TorchreelErrorCode, file: string, what: string): TorchreelError {
  return new TorchreelError(code, `${file} ${what}`, { path: file })
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
