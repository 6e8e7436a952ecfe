import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { Tokenizer as BytePairTokenizer } from '@huggingface/tokenizers'
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
type SpecialToken = string | { content: string }

/** CLIP's byte-pair encoding, from the vocab.json and merges.txt of a checkpoint. */
export class Tokenizer {
  readonly #tokenizer: BytePairTokenizer
  readonly #start: number
  readonly #end: number
  readonly #padding: number
  /** L, ids per prompt. */
  readonly length: number

  private constructor(
    tokenizer: BytePairTokenizer,
    start: number,
    end: number,
    padding: number,
    length: number,
  ) {
    this.#tokenizer = tokenizer
    this.#start = start
    this.#end = end
    this.#padding = padding
    this.length = length
  }

  /**
   * @param folder the checkpoint's `tokenizer/`
   * @param positions how many positions the text encoder has
   */
  static async load(folder: string, positions: number): Promise<Tokenizer> {
    const file = (name: string) => path.join(folder, name)
    const vocabulary = (await readJson(file('vocab.json'))) as Record<string, number>
    const config = (await readJson(file('tokenizer_config.json'))) as Record<string, SpecialToken>
    // The special tokens map comes last: published checkpoints pad with its "!", not with the config's end token.
    const special = (await readJson(file('special_tokens_map.json'), {})) as Record<string, SpecialToken>
    const merges = await readMerges(file('merges.txt'))

    const text = (name: string): string => {
      const token = special[name] ?? config[name] ?? '<|endoftext|>'
      return typeof token === 'string' ? token : token.content
    }
    const id = (name: string): number => {
      const value = vocabulary[text(name)]
      if (Number.isInteger(value)) return value as number
      throw new TorchreelError('ERR_MODEL_CORRUPT', `${file('vocab.json')} lacks the ${name} ${text(name)}`, {
        path: file('vocab.json'),
      })
    }
    const modelLength = Number(config.model_max_length ?? positions)
    const length = Math.min(positions, Number.isFinite(modelLength) ? modelLength : positions)

    const specials = [...new Set([text('bos_token'), text('eos_token')])]
    const tokenizer = new BytePairTokenizer(
      {
        version: '1.0',
        added_tokens: specials.map((content) => ({
          id: vocabulary[content],
          content,
          special: true,
          normalized: true,
          lstrip: false,
          rstrip: false,
          single_word: false,
        })),
        normalizer: {
          type: 'Sequence',
          normalizers: [
            { type: 'NFC' },
            { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
            { type: 'Lowercase' },
          ],
        },
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            {
              type: 'Split',
              pattern: {
                Regex:
                  "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+",
              },
              behavior: 'Removed',
              invert: true,
            },
            { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
          ],
        },
        post_processor: null,
        decoder: null,
        model: {
          type: 'BPE',
          vocab: vocabulary,
          merges,
          unk_token: text('unk_token'),
          continuing_subword_prefix: '',
          end_of_word_suffix: '</w>',
          fuse_unk: false,
        },
      },
      {},
    )
    return new Tokenizer(tokenizer, id('bos_token'), id('eos_token'), id('pad_token'), length)
  }

  encode(prompt: string): Tokens {
    const { ids } = this.#tokenizer.encode(prompt, { add_special_tokens: false })
    const kept = ids.slice(0, this.length - 2)
    const row = new Int32Array(this.length).fill(this.#padding)
    row.set([this.#start, ...kept, this.#end])
    return { ids: row, cut: ids.length - kept.length }
  }
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
