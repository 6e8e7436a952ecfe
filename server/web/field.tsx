// One option: its control, its sentence, its default and its range.
import type { JSX } from 'preact'
import type { Refusal } from './api.ts'
import { set, settings } from './draft.ts'
import type { Field, Schema, Value } from './protocol.ts'
import { refusal } from './submit.ts'

/** What a field takes, as far as the page has a control for it. */
type Kind =
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

export function FieldControl({ field }: { field: Field }) {
  const kind = kindOf(field.schema)
  if (!kind) return null
  const id = `field-${field.name}`
  const wrong = refusal.value?.parameter === field.name
  const common = { id, 'aria-describedby': `${id}-hint`, 'aria-invalid': wrong || undefined }
  return (
    <div class={kind.is === 'switch' ? 'field switch' : 'field'}>
      <label for={id}>{labelOf(field)}</label>
      <Control field={field} kind={kind} common={common} />
      <p id={`${id}-hint`} class="hint">
        {wrong && refusal.value ? inTheFormsWords(refusal.value) : hintOf(field, kind)}
      </p>
    </div>
  )
}

interface ControlProps {
  readonly field: Field
  readonly kind: Kind
  readonly common: { readonly id: string; readonly 'aria-describedby': string }
}

function Control({ field: { name, default: otherwise }, kind, common }: ControlProps): JSX.Element {
  const value = settings.value[name]
  const give = (given: Value | undefined) => set(name, given)
  switch (kind.is) {
    case 'choice':
      return (
        <select
          {...common}
          value={String(value ?? '')}
          onChange={(e) => give(e.currentTarget.value || undefined)}
        >
          <option value="">{typeof otherwise === 'string' ? otherwise : 'default'}</option>
          {kind.of
            .filter((choice) => choice !== otherwise)
            .map((choice) => (
              <option key={choice}>{choice}</option>
            ))}
        </select>
      )
    case 'switch':
      return (
        <input
          {...common}
          type="checkbox"
          checked={value === true || (value === undefined && otherwise === true)}
          onChange={(e) =>
            give(e.currentTarget.checked === (otherwise === true) ? undefined : e.currentTarget.checked)
          }
        />
      )
    case 'number':
      return (
        <input
          {...common}
          type="number"
          inputMode={kind.step === 'any' ? 'decimal' : 'numeric'}
          step={kind.step}
          min={kind.minimum}
          max={kind.maximum}
          placeholder={typeof otherwise === 'number' ? String(otherwise) : ''}
          value={value === undefined ? '' : String(value)}
          onInput={(e) =>
            give(Number.isNaN(e.currentTarget.valueAsNumber) ? undefined : e.currentTarget.valueAsNumber)
          }
        />
      )
    case 'numbers':
      return (
        <input
          {...common}
          placeholder={kind.names?.join(', ') ?? 'from, to'}
          value={typeof value === 'object' ? Object.values(value).join(', ') : String(value ?? '')}
          onChange={(e) => give(numbersFrom(e.currentTarget.value, kind))}
        />
      )
    case 'text':
      return (
        <input
          {...common}
          value={String(value ?? '')}
          onInput={(e) => give(e.currentTarget.value || undefined)}
        />
      )
  }
}

function numbersFrom(
  text: string,
  { names, count }: { names?: readonly string[]; count: number },
): Value | undefined {
  const numbers = text.split(',').map(Number)
  if (text.trim() === '') return undefined
  // The server says what is wrong with other text.
  if (numbers.length !== count || numbers.some(Number.isNaN)) return text
  return names ? Object.fromEntries(names.map((name, index) => [name, numbers[index] as number])) : numbers
}

const labels: Readonly<Record<string, string>> = {
  num_frames: 'Frames',
  fps: 'Frames per second',
  num_inference_steps: 'Steps',
  guidance_scale: 'Guidance',
  free_u: 'FreeU',
  clip_skip: 'CLIP skip',
  eta: 'Eta',
}

export function labelOf({ name }: { readonly name: string }): string {
  const words = name.replaceAll('_', ' ')
  return labels[name] ?? words.charAt(0).toUpperCase() + words.slice(1)
}

/** 'Steps must be …' for 'num_inference_steps must be …'. */
export function inTheFormsWords({ message, parameter }: Refusal): string {
  return parameter === undefined ? message : message.replace(parameter, labelOf({ name: parameter }))
}

/** 'Denoising steps. 1 to 1000; the default is 25.' */
function hintOf({ description, default: otherwise, default_text: inWords }: Field, kind: Kind): string {
  const sentence = description.charAt(0).toUpperCase() + description.slice(1)
  const range =
    kind.is === 'number' && kind.minimum !== undefined && kind.maximum !== undefined && kind.maximum < 1e6
      ? `${kind.minimum} to ${kind.maximum}`
      : undefined
  const shown =
    otherwise === undefined ? defaultIn(inWords) : kind.is === 'switch' ? undefined : String(otherwise)
  const facts = [range, shown && `default ${shown}`].filter(Boolean).join(', ')
  return facts ? `${sentence}. ${facts.charAt(0).toUpperCase()}${facts.slice(1)}.` : `${sentence}.`
}

/** The default in words, without what only a programmer needs to know. */
function defaultIn(markdown: string | undefined): string | undefined {
  return markdown?.replaceAll(/`|''/g, '').replace(/;.*/, '').trim() || undefined
}
