import { loraOptions, textualInversionOptions } from '../adapters/options.js'
import type { JsonSchema } from '../checks/kinds.js'
import { schemaOf, type Table } from '../checks/options.js'
import { saveOptions } from '../video/write/options.js'
import { outputOptions } from '../video/write/recording.js'
import { callOptions } from './call.js'
import { limitOptions } from './limits.js'
import { oneCallOptions, ownOptions } from './one_call.js'
import { pipelineOptions } from './pipeline.js'

// `torchreel/options`: the options as data, for servers, forms and tools.

export type { JsonSchema }

/** The interface that an option belongs to. */
export type OptionOwner = 'generate' | 'pipeline' | 'call' | 'file' | 'lora' | 'textualInversion' | 'limits'

/** One option as data. */
export interface OptionFacts {
  readonly owner: OptionOwner
  readonly name: string
  /** The heading of its group, such as 'Denoising'. */
  readonly group: string
  /** One sentence, as the end of "NAME: …". */
  readonly description: string
  /** The accepted values in words. */
  readonly expected: string
  /** The default; undefined where there is none, or where it depends on something. */
  readonly default?: unknown
  /** The default in words, as Markdown, where it depends on something. */
  readonly defaultText?: string
  readonly unit?: string
  /** How the command line writes it: `--steps <n>`. Undefined: it cannot. */
  readonly flag?: string
  /** The values that JSON can hold; undefined: none, as of a function. */
  readonly schema?: JsonSchema
  /** Words, and the page of docs/ that they lead to. */
  readonly see?: readonly [words: string, page: string]
}

const tables: Readonly<Record<OptionOwner, Table>> = {
  generate: ownOptions,
  pipeline: pipelineOptions,
  call: callOptions,
  file: saveOptions,
  lora: loraOptions,
  textualInversion: textualInversionOptions,
  limits: limitOptions,
}

/** Every option, in the order of the documents. */
export const options: readonly OptionFacts[] = Object.entries(tables).flatMap(([owner, table]) =>
  Object.entries(table).map(([name, { kind, says, otherwise, group, unit, flag, see, ...rest }]) => ({
    owner: owner as OptionOwner,
    name,
    group,
    description: says,
    expected: kind.expected,
    ...(rest.default !== undefined && { default: rest.default }),
    ...(otherwise !== undefined && { defaultText: otherwise }),
    ...(unit !== undefined && { unit }),
    ...(flag !== undefined && { flag }),
    ...(kind.schema !== undefined && { schema: kind.schema }),
    ...(see !== undefined && { see }),
  })),
)

const schema = (title: string, table: Table, required?: readonly string[]): JsonSchema => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title,
  ...schemaOf(table, required),
})

/** JSON Schema of `generate`'s options, without those that JSON cannot hold, such as `signal`. */
export const generateSchema = schema('Options of generate', oneCallOptions)
/** JSON Schema of `TextToVideoPipeline.fromPretrained`'s options. */
export const pipelineSchema = schema('Options of a pipeline', pipelineOptions)
/** JSON Schema of `pipeline.generate`'s options. */
export const callSchema = schema('Options of a call', callOptions)
/** JSON Schema of the option `output`. */
export const outputSchema = schema('Options of an output file', outputOptions, ['path'])

/** For "did you mean". */
export { nearest } from '../checks/suggestion.js'
export { checkCallFor, type FittedOptions, type ModelFacts, readModelFacts } from './model.js'
