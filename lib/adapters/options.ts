import { type Check, filePath, number, reader, text } from '../checks/checks.js'
import { invalidArgument } from '../errors.js'
import { isUrl } from '../files/paths.js'

/** How a LoRA is loaded. */
export interface LoraOptions {
  /** What it is called from then on. @defaultValue the file's name */
  name?: string | undefined
  /** How strongly it works, −100 to 100. @defaultValue 1 */
  scale?: number | undefined
}

/** How a textual inversion is loaded. */
export interface TextualInversionOptions {
  /** What stands for it in a prompt. @defaultValue the tensor's name, or the file's where that says nothing */
  token?: string | undefined
}

export interface CheckedLora {
  file: string
  name: string | undefined
  scale: number
}

export interface CheckedTextualInversion {
  file: string
  token: string | undefined
}

const scale = number(-100, 100)

export function checkLora(file: string | URL, options: LoraOptions): CheckedLora {
  const read = reader(options, ['name', 'scale'])
  return { file: filePath('file', file), name: read('name', undefined, text), scale: read('scale', 1, scale) }
}

export function checkTextualInversion(
  file: string | URL,
  options: TextualInversionOptions,
): CheckedTextualInversion {
  const read = reader(options, ['token'])
  return { file: filePath('file', file), token: read('token', undefined, text) }
}

/** Scales by name; a name with no scale has 1. */
export function checkScales(
  adapters: readonly { name: string; scale?: number | undefined }[],
): { name: string; scale: number }[] {
  return listOf<{ name: string; scale: number }>((name, value) => {
    const read = reader(objectOf(name, value), ['name', 'scale'])
    return { name: text('name', read('name', '', text)), scale: read('scale', 1, scale) }
  })('adapters', adapters)
}

/** Files, each alone or with its options. */
export const loraList: Check<CheckedLora[]> = listOf((name, value) => {
  if (typeof value === 'string' || isUrl(value)) return checkLora(value, {})
  const { file, ...options } = objectOf(name, value)
  return checkLora(file as string, options)
})

/** Files, each alone or with its options. */
export const textualInversionList: Check<CheckedTextualInversion[]> = listOf((name, value) => {
  if (typeof value === 'string' || isUrl(value)) return checkTextualInversion(value, {})
  const { file, ...options } = objectOf(name, value)
  return checkTextualInversion(file as string, options)
})

function objectOf(name: string, value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  throw invalidArgument(name, 'an object', value)
}

function listOf<T>(check: Check<T>): Check<T[]> {
  return (name, value) => {
    if (Array.isArray(value)) return value.map((one) => check(name, one))
    throw invalidArgument(name, 'an array', value)
  }
}
