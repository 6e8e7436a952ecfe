import type { NativeAdaptation } from '../addon/interface.js'
import type { NativePipeline } from '../addon/native_pipeline.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { suggestion } from '../checks/suggestion.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import type { Role } from '../families/family.js'
import { readSafetensorsHeader, type SafetensorsHeader } from '../files/safetensors_header.js'
import { type ExtensibleTokenizer, isExtensible, type Tokenizer } from '../text/tokenizer.js'
import { type AdaptedNetwork, findLoraLayers, type LoraLayer } from './lora.js'
import { readLoraFile } from './lora_file.js'
import type { CheckedLora, CheckedTextualInversion } from './options.js'
import { findVectors, type TextualInversion } from './textual_inversion.js'

/** A LoRA that is loaded. */
export interface Lora {
  readonly name: string
  /** The safetensors file. */
  readonly file: string
  /** How strongly it acts; 0: not at all. */
  readonly scale: number
}

interface State {
  readonly loras: readonly (Lora & { readonly layers: readonly LoraLayer[] })[]
  readonly inversions: readonly (TextualInversion & { readonly tensor: string })[]
}

/**
 * The LoRAs and textual inversions of a pipeline, which runs one change at a time. A change replaces the whole set: the core
 * computes each changed weight anew from the files, so rounding does not add up and unloading leaves nothing behind.
 */
export class Adapters {
  readonly #checkpoint: Checkpoint
  readonly #tokenizer: Tokenizer
  readonly #native: NativePipeline
  readonly #header: (file: string) => Promise<SafetensorsHeader>
  #networks: Promise<AdaptedNetwork[]> | undefined
  #state: State = { loras: [], inversions: [] }

  /** @param headerBytes bytes that a file's header may have */
  constructor(checkpoint: Checkpoint, tokenizer: Tokenizer, native: NativePipeline, headerBytes: number) {
    this.#checkpoint = checkpoint
    this.#tokenizer = tokenizer
    this.#native = native
    this.#header = (file) => readSafetensorsHeader(file, headerBytes)
  }

  get loras(): Lora[] {
    return this.#state.loras.map(({ name, file, scale }) => ({ name, file, scale }))
  }

  get textualInversions(): TextualInversion[] {
    return this.#state.inversions.map(({ token, vectors, file }) => ({ token, vectors, file }))
  }

  async loadLora({ file, name, scale }: CheckedLora): Promise<string> {
    const { loras, inversions } = this.#state
    const lora = await readLoraFile(file, this.#header)
    const layers = findLoraLayers(lora, await this.#readNetworks())
    const taken = loras.map((lora) => lora.name)
    if (name !== undefined && taken.includes(name)) {
      throw invalidArgument('name', `a name that is not taken (${taken.join(', ')})`, name)
    }
    const added = { name: name ?? chooseName(lora.name, taken), file: lora.header.file, scale, layers }
    await this.#apply({ loras: [...loras, added], inversions })
    return added.name
  }

  async setScales(scales: readonly { name: string; scale: number }[]): Promise<void> {
    const { loras, inversions } = this.#state
    for (const { name } of scales) assertLoaded('name', 'LoRA', name, namesOf(loras))
    const scaled = loras.map((lora) => ({
      ...lora,
      scale: scales.find(({ name }) => name === lora.name)?.scale ?? 0,
    }))
    return this.#apply({ loras: scaled, inversions })
  }

  async unloadLora(name: string | undefined): Promise<void> {
    const { loras, inversions } = this.#state
    if (name !== undefined) assertLoaded('name', 'LoRA', name, namesOf(loras))
    const kept = loras.filter((lora) => name !== undefined && lora.name !== name)
    return this.#apply({ loras: kept, inversions })
  }

  async loadTextualInversion({ file, token }: CheckedTextualInversion): Promise<string> {
    const { loras, inversions } = this.#state
    const { tokenizer, rows, width } = await this.#readTokenTable()
    const header = await this.#header(file)
    if (rows !== tokenizer.vocabularySize) {
      throw new TorchreelError(
        'ERR_MODEL_INCOMPATIBLE',
        `the text encoder knows ${rows} tokens and the tokenizer ${tokenizer.vocabularySize}, so none can be added`,
        { path: this.#checkpoint.folder },
      )
    }
    const { inversion, tensor } = findVectors(header, token, width)
    for (const word of wordsOf(inversion)) {
      if (word.trim() !== '' && !tokenizer.knows(word)) continue
      throw invalidArgument('token', 'a word that the tokenizer does not know yet', word)
    }
    await this.#apply({ loras, inversions: [...inversions, { ...inversion, tensor }] })
    return inversion.token
  }

  async unloadTextualInversion(token: string | undefined): Promise<void> {
    const { loras, inversions } = this.#state
    const tokens = inversions.map((inversion) => inversion.token)
    if (token !== undefined) assertLoaded('token', 'textual inversion', token, tokens)
    const kept = inversions.filter((inversion) => token !== undefined && inversion.token !== token)
    return this.#apply({ loras, inversions: kept })
  }

  async #apply(next: State): Promise<void> {
    const networks = this.#checkpoint.properties.family.components
    const tokenTable = networks.find((network) => network.tokenTable)?.tokenTable
    await this.#native.adapt(describeAdaptations(next, tokenTable))
    this.#state = next
    this.#setTokens(next)
  }

  /** Ids after the vocabulary's, in the order of loading, like the rows of the table. */
  #setTokens({ inversions }: State): void {
    if (!isExtensible(this.#tokenizer)) return
    let next = this.#tokenizer.vocabularySize
    this.#tokenizer.setAddedTokens(
      inversions.flatMap((inversion) => {
        const ids = Array.from({ length: inversion.vectors }, () => next++)
        // The word stands for all of its vectors; word_1 … stand for one each.
        return wordsOf(inversion).map((content, index) => ({
          content,
          ids: index === 0 ? ids : ids.slice(index, index + 1),
        }))
      }),
    )
  }

  /** The networks that adapters may change, with the shapes of their weights, from the headers of the weight files. */
  #readNetworks(): Promise<AdaptedNetwork[]> {
    const { files, properties } = this.#checkpoint
    this.#networks ??= Promise.all(
      properties.family.components
        .filter(({ loraNames, tokenTable }) => loraNames || tokenTable)
        .map(async (component) => {
          const headers = await Promise.all(files[component.role].weights.map((file) => this.#header(file)))
          const shapes = headers.flatMap(({ tensors }) =>
            Array.from(tensors, ([name, { shape }]) => [name, shape] as const),
          )
          return { ...component, shapes: new Map(shapes) }
        }),
    )
    return this.#networks
  }

  /** What textual inversions extend: the tokenizer, and the text encoder's table of (rows, width). */
  async #readTokenTable(): Promise<{ tokenizer: ExtensibleTokenizer; rows: number; width: number }> {
    const networks = await this.#readNetworks()
    const table = networks.find(({ tokenTable }) => tokenTable)
    if (!isExtensible(this.#tokenizer) || !table?.tokenTable) {
      throw new TorchreelError(
        'ERR_MODEL_INCOMPATIBLE',
        `textual inversions cannot be loaded into ${this.#checkpoint.properties.family.title} models`,
        { path: this.#checkpoint.folder },
      )
    }
    const [rows, width] = table.shapes.get(table.tokenTable) as [number, number]
    return { tokenizer: this.#tokenizer, rows, width }
  }
}

function assertLoaded(parameter: string, kind: string, name: string, loaded: readonly string[]): void {
  if (loaded.includes(name)) return
  const message =
    loaded.length > 0
      ? `no ${kind} is named ${JSON.stringify(name)}; loaded: ${loaded.join(', ')}${suggestion(name, loaded)}`
      : `no ${kind} is loaded`
  throw new TorchreelError('ERR_INVALID_ARGUMENT', message, {
    parameter,
    expected: loaded.join(', '),
    received: name,
  })
}

function namesOf(loras: readonly Lora[]): string[] {
  return loras.map(({ name }) => name)
}

/** The reference's names: word, word_1, word_2 … */
function wordsOf({ token, vectors }: TextualInversion): string[] {
  return Array.from({ length: vectors }, (_, index) => (index === 0 ? token : `${token}_${index}`))
}

function chooseName(base: string, taken: readonly string[]): string {
  let name = base
  for (let count = 2; taken.includes(name); count++) name = `${base}_${count}`
  return name
}

function describeAdaptations(
  { loras, inversions }: State,
  tokenTable: string | undefined,
): Record<'textEncoder' | 'denoiser', NativeAdaptation> {
  const updates = (network: Role) =>
    loras
      .filter(({ scale }) => scale !== 0) // it would make a copy that equals the file
      .flatMap(({ file, scale, layers }) =>
        layers
          .filter((layer) => layer.network === network)
          .map((layer) => ({ ...layer, file, scale: scale * layer.scale })),
      )
  const rows = inversions.map(({ file, tensor }) => ({ weight: tokenTable as string, file, tensor }))
  return {
    textEncoder: { updates: updates('textEncoder'), rows },
    denoiser: { updates: updates('denoiser'), rows: [] },
  }
}
