import path from 'node:path'
import { show, TorchreelError, type TorchreelErrorCode } from '../errors.js'
import { readJson, readText } from '../files/json.js'
import { exists } from '../files/regular_file.js'

/** A token that is looked for before a text is split into words. */
export interface FixedToken {
  readonly content: string
  readonly id: number
  /** Whether it is looked for in the normalized text, instead of the text as it was given. */
  readonly normalized: boolean
}

/** The content of a checkpoint's `tokenizer/`. */
export interface ClipFiles {
  /** The file that holds the vocabulary. */
  readonly file: string
  readonly vocabulary: Record<string, number>
  /** The ranks of merges, by both parts with a space between them. */
  readonly merges: ReadonlyMap<string, number>
  readonly added: readonly FixedToken[]
  /** The text of `bos_token`, `eos_token`, `unk_token` or `pad_token`; not a string: the files are wrong. */
  readonly special: (name: string) => unknown
  readonly maxLength: unknown
}

/**
 * Reads the files of a CLIP tokenizer: vocab.json and merges.txt, or tokenizer.json where one of them is missing, as
 * transformers 5 saves it. Of tokenizer.json it takes what transformers 5 takes: vocabulary, merges and added tokens.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`; `ERR_MODEL_INCOMPATIBLE` for another kind of tokenizer
 */
export async function readClipFiles(folder: string): Promise<ClipFiles> {
  const at = (name: string) => path.join(folder, name)
  const isSplit = exists(at('vocab.json')) && exists(at('merges.txt'))
  const together = !isSplit && exists(at('tokenizer.json'))
  const { file, vocabulary, merges, added } = together
    ? await readTogether(at('tokenizer.json'))
    : await readSplit(at('vocab.json'), at('merges.txt'))
  requireMerges(file, vocabulary, merges)

  const config = await readJson(at('tokenizer_config.json'))
  // The special tokens map wins: published checkpoints pad with its "!", not with the config's end token.
  const special = await readJson(at('special_tokens_map.json'), {})
  const more = await readJson(at('added_tokens.json'), {})
  return {
    file,
    vocabulary,
    merges,
    added: requireTexts(folder, [
      ...added,
      ...tokensByText(more),
      ...tokensById(asObject(config.added_tokens_decoder)),
    ]),
    special: (name) => {
      const token = special[name] ?? config[name] ?? (name === 'bos_token' ? startToken : endToken)
      return typeof token === 'string' ? token : asObject(token).content
    },
    maxLength: config.model_max_length,
  }
}

const startToken = '<|startoftext|>'
const endToken = '<|endoftext|>'

type Encoding = Pick<ClipFiles, 'file' | 'vocabulary' | 'merges' | 'added'>

// ---- vocab.json and merges.txt --------------------------------------------------------------------------------------

async function readSplit(vocabularyFile: string, mergesFile: string): Promise<Encoding> {
  const vocabulary = (await readJson(vocabularyFile)) as Record<string, number>
  const lines = (await readText(mergesFile)).split('\n')
  const merges = lines.filter((line) => !line.startsWith('#version') && line.trim() !== '')
  return { file: vocabularyFile, vocabulary, merges: rankMerges(mergesFile, merges), added: [] }
}

/** Tokens of added_tokens.json: ids by text. */
function tokensByText(tokens: Readonly<Record<string, unknown>>): FixedToken[] {
  return Object.entries(tokens).map(([content, id]) => ({ content, id: id as number, normalized: true }))
}

/** Tokens of `added_tokens_decoder` in tokenizer_config.json: objects by id. */
function tokensById(tokens: Readonly<Record<string, unknown>>): FixedToken[] {
  return Object.entries(tokens).map(([id, token]) => {
    const { content, normalized } = asObject(token)
    return { content: content as string, id: Number(id), normalized: normalized !== false }
  })
}

function requireTexts(folder: string, tokens: readonly FixedToken[]): readonly FixedToken[] {
  const wrong = tokens.find(({ content }) => typeof content !== 'string' || content === '')
  if (wrong === undefined) return tokens
  throw fault('ERR_MODEL_CORRUPT', folder, `has the added token ${show(wrong.content)}`)
}

// ---- tokenizer.json -------------------------------------------------------------------------------------------------

async function readTogether(file: string): Promise<Encoding> {
  const { model, added_tokens: tokens = [] } = await readJson(file)
  const { type = 'BPE', vocab, merges, end_of_word_suffix: suffix = '</w>' } = asObject(model)
  if (type !== 'BPE' || suffix !== '</w>') {
    const found = type === 'BPE' ? `words that end in ${show(suffix)}` : `a ${show(type)} model`
    throw fault(
      'ERR_MODEL_INCOMPATIBLE',
      file,
      `holds ${found}; CLIP needs a "BPE" model of words that end in "</w>"`,
    )
  }
  if (!isObject(vocab) || !Array.isArray(merges) || !Array.isArray(tokens))
    throw fault('ERR_MODEL_CORRUPT', file, 'has no vocabulary with merges and added tokens')
  // Newer versions write pairs, so that a part may hold a space.
  const lines = merges.map((merge) =>
    Array.isArray(merge) && merge.length === 2 ? `${merge[0]} ${merge[1]}` : merge,
  )
  const added = tokens.map((token): FixedToken => {
    const { content, id, normalized, single_word: singleWord } = asObject(token)
    if (singleWord === true) {
      const what = `has the added token ${show(content)} for whole words only, which torchreel cannot tell apart`
      throw fault('ERR_MODEL_INCOMPATIBLE', file, what)
    }
    return { content: content as string, id: id as number, normalized: normalized !== false }
  })
  return { file, vocabulary: vocab as Record<string, number>, merges: rankMerges(file, lines), added }
}

// ---- merges ---------------------------------------------------------------------------------------------------------

/** @param merges both parts of each with a space between them, the first merge first */
function rankMerges(file: string, merges: readonly unknown[]): Map<string, number> {
  const ranks = new Map<string, number>()
  for (const merge of merges) {
    if (typeof merge === 'string' && /^\S+ \S+$/.test(merge)) {
      ranks.set(merge, ranks.size)
      continue
    }
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} has the merge ${show(merge)}`, {
      path: file,
      expected: 'two parts with a space between them',
      received: merge,
    })
  }
  return ranks
}

/** If the file was cut, some words have no merge that makes them. */
function requireMerges(file: string, vocabulary: object, merges: ReadonlyMap<string, number>): void {
  // Special tokens, which no merge makes, begin with a bracket.
  const letters = (word: string) => word.length - (word.endsWith('</w>') ? 4 : 0)
  const isMade = (word: string) => letters(word) > 1 && word[0] !== '<' && word[0] !== '['
  const made = Object.keys(vocabulary).filter(isMade).length
  if (merges.size >= made) return
  const what = `has ${made} words that need a merge, and there are ${merges.size} merges`
  throw fault('ERR_MODEL_CORRUPT', file, what)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function asObject(value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {}
}

function fault(code: TorchreelErrorCode, file: string, what: string): TorchreelError {
  return new TorchreelError(code, `${file} ${what}`, { path: file })
}
