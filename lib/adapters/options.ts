import { checkValue, filePath, type Kind, list, number, numberFromText, text } from '../checks/kinds.js'
import { checkOptions, schemaOf, type Table, type TableOf, type Values } from '../checks/options.js'
import { isUrl } from '../files/paths.js'

/** How a LoRA is loaded. */
export interface LoraOptions {
  /** The name of the LoRA for `setAdapters` and `unloadLora`. @defaultValue the file's name */
  name?: string | undefined
  /** The strength of the LoRA, −100 to 100. 0 turns it off. @defaultValue 1 */
  scale?: number | undefined
}

/** How a textual inversion is loaded. */
export interface TextualInversionOptions {
  /** The word that stands for the textual inversion in a prompt. @defaultValue the tensor's name, else the file's name */
  token?: string | undefined
}

const group = 'Adapters'

/** The options of a LoRA. */
export const loraOptions = {
  name: {
    kind: text,
    otherwise: "the file's name",
    group,
    says: 'the name with which setAdapters and unloadLora find the LoRA',
  },
  scale: { kind: number(-100, 100), default: 1, group, says: 'strength of the LoRA; 0 turns it off' },
} as const satisfies TableOf<LoraOptions>

/** The options of a textual inversion. */
export const textualInversionOptions = {
  token: {
    kind: text,
    otherwise: "the tensor's name, else the file's name",
    group,
    says: 'the word that you write in a prompt to use the textual inversion',
  },
} as const satisfies TableOf<TextualInversionOptions>

export type CheckedLora = Values<typeof loraOptions> & { readonly file: string }
export type CheckedTextualInversion = Values<typeof textualInversionOptions> & { readonly file: string }

export function checkLora(file: string | URL, options: LoraOptions): CheckedLora {
  return { file: checkValue(filePath, 'file', file), ...checkOptions(options, loraOptions) }
}

export function checkTextualInversion(
  file: string | URL,
  options: TextualInversionOptions,
): CheckedTextualInversion {
  return { file: checkValue(filePath, 'file', file), ...checkOptions(options, textualInversionOptions) }
}

/** Scales by name; a name with no scale has 1. */
export function checkScales(
  adapters: readonly { name: string; scale?: number | undefined }[],
): readonly { name: string; scale: number }[] {
  return checkValue(list(scaled), 'adapters', adapters)
}

const scaled: Kind<{ name: string; scale: number }> = {
  expected: '{ name, scale }',
  read(value) {
    if (typeof value !== 'object' || value === null) return undefined
    const { name, scale } = checkOptions(value, loraOptions)
    return { name: checkValue(text, 'name', name), scale }
  },
}

/** A file, alone or with its options. */
function fileWith<T>(
  table: Table,
  check: (file: string | URL, options: object) => T,
  fromText: (words: string) => object,
): Kind<T> {
  const all = { file: { kind: filePath, group, says: 'the safetensors file' }, ...table }
  return {
    expected: `a file, or { ${Object.keys(all).join(', ')} }`,
    schema: { anyOf: [text.schema, schemaOf(all, ['file'])] },
    fromText,
    read(value) {
      if (typeof value === 'string' || isUrl(value)) return check(value, {})
      if (typeof value !== 'object' || value === null) return undefined
      const { file, ...options } = value as { file: string | URL }
      return check(file, options)
    },
  }
}

/** LoRA files; on a command line `file` or `file:scale`. */
export const loraFile: Kind<CheckedLora> = fileWith(loraOptions, checkLora, (words) => {
  const [, file = words, scale = '1'] = /^(.+):([-+]?[\d.]+)$/.exec(words) ?? []
  return { file, scale: numberFromText(scale) }
})

/** Files of textual inversions; on a command line `file` or `file:word`. */
export const textualInversionFile: Kind<CheckedTextualInversion> = fileWith(
  textualInversionOptions,
  checkTextualInversion,
  (words) => {
    const [, file = words, token] = /^(.+\.safetensors):(.+)$/.exec(words) ?? []
    return { file, token }
  },
)
