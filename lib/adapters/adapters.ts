import path from 'node:path'
import type { NativeAdaptation } from '../addon/interface.js'
import type { NativePipeline } from '../addon/native_pipeline.js'
import type { Queue } from '../call/queue.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { suggestion } from '../checks/suggestion.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import { readSafetensorsHeader, type SafetensorsHeader } from '../files/safetensors_header.js'
import type { Tokenizer } from '../text/clip_tokenizer.js'
import { type AdaptedNetwork, type LoraLayer, loraLayers, type WeightShapes } from './lora.js'
import type { CheckedLora, CheckedTextualInversion } from './options.js'
import { type TextualInversion, textualInversion } from './textual_inversion.js'

/** A LoRA that is loaded. */
export interface Lora {
  readonly name: string
  /** The safetensors file. */
  readonly file: string
  /** How strongly it works; 0: not at all. */
  readonly scale: number
}

interface State {
  readonly loras: readonly (Lora & { readonly layers: readonly LoraLayer[] })[]
  readonly inversions: readonly (TextualInversion & { readonly tensor: string })[]
}

const tokenTable = 'text_model.embeddings.token_embedding.weight'

/**
 * The LoRAs and textual inversions of a pipeline. A change takes its turn among the pipeline's calls, and always says all
 * that holds after it: the core makes each changed weight anew from the files, so nothing adds up and nothing is left
 * behind. Calls that were made after it start when it is done.
 */
export class Adapters {
  readonly #checkpoint: Checkpoint
  readonly #tokenizer: Tokenizer
  readonly #native: NativePipeline
  readonly #queue: Queue
  readonly #header: (file: string) => Promise<SafetensorsHeader>
  #shapes: Promise<Record<AdaptedNetwork, WeightShapes>> | undefined
  #state: State = { loras: [], inversions: [] }

  /** @param headerBytes the most that a file's header may have */
  constructor(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    native: NativePipeline,
    queue: Queue,
    headerBytes: number,
  ) {
    this.#checkpoint = checkpoint
    this.#tokenizer = tokenizer
    this.#native = native
    this.#queue = queue
    this.#header = (file) => readSafetensorsHeader(file, headerBytes)
  }

  get loras(): Lora[] {
    return this.#state.loras.map(({ name, file, scale }) => ({ name, file, scale }))
  }

  get textualInversions(): TextualInversion[] {
    return this.#state.inversions.map(({ token, vectors, file }) => ({ token, vectors, file }))
  }

  loadLora({ file, name, scale }: CheckedLora): Promise<string> {
    return this.#change(async ({ loras, inversions }) => {
      const header = await this.#header(file)
      const layers = loraLayers(header, await this.#weightShapes())
      const taken = loras.map((lora) => lora.name)
      if (name !== undefined && taken.includes(name)) {
        throw invalidArgument('name', `other than those that are loaded: ${taken.join(', ')}`, name)
      }
      const lora = { name: name ?? freeName(header.file, taken), file: header.file, scale, layers }
      await this.#apply({ loras: [...loras, lora], inversions })
      return lora.name
    })
  }

  setScales(scales: readonly { name: string; scale: number }[]): Promise<void> {
    return this.#change(async ({ loras, inversions }) => {
      for (const { name } of scales) this.#assertLoaded('name', name, namesOf(loras))
      const scaled = loras.map((lora) => ({
        ...lora,
        scale: scales.find(({ name }) => name === lora.name)?.scale ?? 0,
      }))
      return this.#apply({ loras: scaled, inversions })
    })
  }

  unloadLora(name: string | undefined): Promise<void> {
    return this.#change(async ({ loras, inversions }) => {
      if (name !== undefined) this.#assertLoaded('name', name, namesOf(loras))
      const kept = loras.filter((lora) => name !== undefined && lora.name !== name)
      return this.#apply({ loras: kept, inversions })
    })
  }

  loadTextualInversion({ file, token }: CheckedTextualInversion): Promise<string> {
    return this.#change(async ({ loras, inversions }) => {
      const header = await this.#header(file)
      const [rows, width] = (await this.#weightShapes()).text_encoder.get(tokenTable) as [number, number]
      if (rows !== this.#tokenizer.vocabularySize) {
        throw new TorchreelError(
          'ERR_MODEL_INCOMPATIBLE',
          `the text encoder knows ${rows} tokens and the tokenizer ${this.#tokenizer.vocabularySize}, so none can be added`,
          { path: this.#checkpoint.folder },
        )
      }
      const { inversion, tensor } = textualInversion(header, token, width)
      for (const word of wordsOf(inversion)) {
        if (word.trim() !== '' && !this.#tokenizer.knows(word)) continue
        throw invalidArgument('token', 'a word that the tokenizer does not know yet', word)
      }
      await this.#apply({ loras, inversions: [...inversions, { ...inversion, tensor }] })
      return inversion.token
    })
  }

  unloadTextualInversion(token: string | undefined): Promise<void> {
    return this.#change(async ({ loras, inversions }) => {
      const tokens = inversions.map((inversion) => inversion.token)
      if (token !== undefined) this.#assertLoaded('token', token, tokens)
      const kept = inversions.filter((inversion) => token !== undefined && inversion.token !== token)
      return this.#apply({ loras, inversions: kept })
    })
  }

  #change<T>(change: (state: State) => Promise<T>): Promise<T> {
    return this.#queue.run(
      () => change(this.#state),
      async (changed) => changed as T,
    )
  }

  async #apply(next: State): Promise<void> {
    await this.#native.adapt(adaptationsOf(next))
    this.#state = next
    this.#setTokens(next)
  }

  /** Ids after the vocabulary's, in the order of loading, as the rows of the table. */
  #setTokens({ inversions }: State): void {
    let next = this.#tokenizer.vocabularySize
    this.#tokenizer.setAddedTokens(
      inversions.flatMap((inversion) => {
        const ids = Array.from({ length: inversion.vectors }, () => next++)
        // The word stands for all of its vectors; word_1 … are there for one of them.
        return wordsOf(inversion).map((content, index) => ({
          content,
          ids: index === 0 ? ids : ids.slice(index, index + 1),
        }))
      }),
    )
  }

  #weightShapes(): Promise<Record<AdaptedNetwork, WeightShapes>> {
    const read = async (network: AdaptedNetwork) => {
      const headers = await Promise.all(
        this.#checkpoint.files[network].weights.map((file) => this.#header(file)),
      )
      return new Map(
        headers.flatMap(({ tensors }) => Array.from(tensors, ([name, { shape }]) => [name, shape] as const)),
      )
    }
    this.#shapes ??= (async () => ({ text_encoder: await read('text_encoder'), unet: await read('unet') }))()
    return this.#shapes
  }

  #assertLoaded(parameter: string, name: string, loaded: readonly string[]): void {
    if (loaded.includes(name)) return
    const those = loaded.length > 0 ? `one of ${loaded.join(', ')}` : 'loaded, and nothing is'
    throw new TorchreelError(
      'ERR_INVALID_ARGUMENT',
      `${parameter} must be ${those}, got ${JSON.stringify(name)}${suggestion(name, loaded)}`,
      { parameter, expected: those, received: name },
    )
  }
}

function namesOf(loras: readonly Lora[]): string[] {
  return loras.map(({ name }) => name)
}

/** As the reference names them: word, word_1, word_2 … */
function wordsOf({ token, vectors }: TextualInversion): string[] {
  return Array.from({ length: vectors }, (_, index) => (index === 0 ? token : `${token}_${index}`))
}

function freeName(file: string, taken: readonly string[]): string {
  const base = path.basename(file, '.safetensors')
  let name = base
  for (let count = 2; taken.includes(name); count++) name = `${base}_${count}`
  return name
}

function adaptationsOf({ loras, inversions }: State): {
  textEncoder: NativeAdaptation
  denoiser: NativeAdaptation
} {
  const updates = (network: AdaptedNetwork) =>
    loras
      .filter(({ scale }) => scale !== 0) // else a copy that equals the file
      .flatMap(({ file, scale, layers }) =>
        layers
          .filter((layer) => layer.network === network)
          .map((layer) => ({ ...layer, file, scale: scale * layer.scale })),
      )
  const rows = inversions.map(({ file, tensor }) => ({ weight: tokenTable, file, tensor }))
  return {
    textEncoder: { updates: updates('text_encoder'), rows },
    denoiser: { updates: updates('unet'), rows: [] },
  }
}
