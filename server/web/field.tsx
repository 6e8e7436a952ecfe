// One option: its control, and a sentence with its default and its range.
import type { JSX } from 'preact'
import { set, settings } from './draft.ts'
import { type Kind, kindOf } from './field_kind.ts'
import { defaultIn, hintOf, inTheFormsWords, labelOf } from './field_words.ts'
import type { Field, Value } from './protocol.ts'
import { refusal } from './submit.ts'

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

function Control({
  field: { name, default: otherwise, default_text: inWords },
  kind,
  common,
}: ControlProps): JSX.Element {
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
          placeholder={typeof otherwise === 'number' ? String(otherwise) : placeholderFrom(inWords)}
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

/** A default in words, if it is short. */
function placeholderFrom(inWords: string | undefined): string {
  const words = defaultIn(inWords) ?? ''
  return words.length <= 12 ? words : ''
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
