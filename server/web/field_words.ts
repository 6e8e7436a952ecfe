// A field's label and the sentence below it.
import type { Refusal } from './api.ts'
import type { Kind } from './field_kind.ts'
import type { Field } from './protocol.ts'

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
export function hintOf(field: Field, kind: Kind): string {
  const { default: otherwise, default_text: inWords } = field
  const range =
    kind.is === 'number' && kind.minimum !== undefined && kind.maximum !== undefined && kind.maximum < 1e6
      ? `${kind.minimum} to ${kind.maximum}`
      : undefined
  const shown =
    otherwise === undefined ? defaultIn(inWords) : kind.is === 'switch' ? undefined : String(otherwise)
  const facts = [range, shown && `default ${shown}`].filter(Boolean).join(', ')
  return [descriptionOf(field), facts].filter(Boolean).map(sentence).join(' ')
}

/** Without the words that the label has said: 'a multiple of 8' for 'width, a multiple of 8'. */
function descriptionOf(field: Field): string {
  const { description } = field
  const label = labelOf(field).toLowerCase()
  const rest = description.slice(label.length)
  return description.toLowerCase().startsWith(label) && /^(,|$)/.test(rest) ? rest.slice(2) : description
}

const sentence = (words: string): string => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`

/** The default in words, without what only a programmer needs to know. */
export function defaultIn(markdown: string | undefined): string | undefined {
  return markdown?.replaceAll(/`|''/g, '').replace(/;.*/, '').trim() || undefined
}
