// What a field takes, from its JSON Schema.
import type { Schema } from './protocol.ts'

/** The controls that the page has. */
export type Kind =
  | {
      readonly is: 'number'
      readonly step: number | 'any'
      readonly minimum?: number
      readonly maximum?: number
    }
  | { readonly is: 'choice'; readonly of: readonly string[] }
  | { readonly is: 'switch' }
  | { readonly is: 'text' }
  /** Numbers with names, or without. */
  | { readonly is: 'numbers'; readonly names?: readonly string[]; readonly count: number }

/** Undefined: the page has no control for it. */
export function kindOf(schema: Schema): Kind | undefined {
  const { type, enum: choices, anyOf, properties, items, minimum, maximum, multipleOf, minItems } = schema
  if (choices) return { is: 'choice', of: choices }
  if (anyOf) return anyOf.map(kindOf).find((kind) => kind !== undefined)
  if (type === 'integer' || type === 'number') {
    const range = { ...(minimum !== undefined && { minimum }), ...(maximum !== undefined && { maximum }) }
    return { is: 'number', step: multipleOf ?? (type === 'integer' ? 1 : 'any'), ...range }
  }
  if (type === 'boolean') return { is: 'switch' }
  if (type === 'string') return { is: 'text' }
  if (type === 'array' && items?.type === 'number' && minItems !== undefined) {
    return { is: 'numbers', count: minItems }
  }
  const parts = Object.entries(properties ?? {})
  if (parts.length > 0 && parts.every(([, part]) => part.type === 'number')) {
    return { is: 'numbers', names: parts.map(([name]) => name), count: parts.length }
  }
  return undefined
}
