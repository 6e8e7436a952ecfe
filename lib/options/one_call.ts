import {
  type LoraOptions,
  loraFile,
  type TextualInversionOptions,
  textualInversionFile,
} from '../adapters/options.js'
import { type Kind, list, text } from '../checks/kinds.js'
import { checkOptions, refuseUnknown, type Table, type TableOf } from '../checks/options.js'
import { isUrl } from '../files/paths.js'
import { callOptions, type GenerateOptions } from './call.js'
import { type PipelineOptions, pipelineOptions } from './pipeline.js'

/** The options of {@link generate}: those of a pipeline and those of a call together. */
export interface OneCallOptions extends PipelineOptions, GenerateOptions {
  /**
   * The model: a folder, owner/name on Hugging Face, or `shapes`, the small model in this package.
   * @defaultValue text-to-video-ms-1.7b if it is in the cache, else a Wan model if one is in the cache, else `shapes`; the video's
   * `model` and `warnings` say which model was used
   */
  model?: string | URL | undefined
  /** LoRAs: for each, a safetensors file, or an object with the file and its options. */
  loras?: readonly (string | URL | (LoraOptions & { file: string | URL }))[] | undefined
  /** Textual inversions: for each, a safetensors file, or an object with the file and its options. */
  textualInversions?:
    | readonly (string | URL | (TextualInversionOptions & { file: string | URL }))[]
    | undefined
}

/** Files, each alone or with its options; a command line writes one at a time. */
function files<T>(file: Kind<T>): Kind<readonly T[]> {
  return { ...list(file), expected: `an array, each ${file.expected}`, fromText: file.fromText }
}

/** The options that only a call with its own pipeline has. */
export const ownOptions = {
  model: {
    kind: {
      ...text,
      expected: "a checkpoint's folder, a model on Hugging Face (owner/name) or 'shapes'",
      read: (value): string | URL | undefined => (isUrl(value) ? value : text.read(value, 'model')),
    },
    otherwise:
      'text-to-video-ms-1.7b if it is in the cache, else a Wan model if one is in the cache, else shapes',
    group: 'The model',
    says: 'the model that torchreel loads; shapes is a small model in the package of torchreel',
    flag: '-m, --model <model>',
  },
  loras: {
    kind: files(loraFile),
    group: 'Adapters',
    says: 'a list of LoRAs; each is a safetensors file, or an object with the file and its options',
    flag: '--lora <file[:scale]>',
    flagSays: 'a safetensors file with a LoRA; repeat the flag for more LoRAs',
    repeats: true,
    see: ['adapters', 'adapters.md'],
  },
  textualInversions: {
    kind: files(textualInversionFile),
    group: 'Adapters',
    says: 'a list of textual inversions; each is a safetensors file, or an object with the file and its options',
    flag: '--textual-inversion <file[:word]>',
    flagSays: 'a safetensors file with a textual inversion, and the word for it; repeat the flag for more',
    repeats: true,
    see: ['adapters', 'adapters.md'],
  },
} as const satisfies TableOf<Omit<OneCallOptions, keyof PipelineOptions | keyof GenerateOptions>>

/** All options of {@link generate}. */
export const oneCallOptions = { ...ownOptions, ...pipelineOptions, ...callOptions } as const

/**
 * Reads each option of {@link generate} once, and gives those of the pipeline and those of the call; `signal` and
 * `onProgress` are options of both.
 */
export function splitOneCall(options: OneCallOptions) {
  refuseUnknown(options, Object.keys(oneCallOptions))
  const given = { ...options }
  const pick = (table: Table) =>
    Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(table, name)))
  return {
    own: checkOptions(pick(ownOptions), ownOptions),
    loading: pick(pipelineOptions) as PipelineOptions,
    making: pick(callOptions) as GenerateOptions,
  }
}
