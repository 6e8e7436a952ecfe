// The options under the prompt, folded at first. The line that unfolds them says what the video will be.
import { model, settingOf, settings, unfolded, write } from './draft.ts'
import { FieldControl } from './field.tsx'
import { kindOf } from './field_kind.ts'
import type { Field } from './protocol.ts'
import { SourceField } from './source.tsx'
import { capabilities } from './videos.ts'

/** The fields that most people change, in the order of the form. */
const first = [
  'width',
  'height',
  'num_frames',
  'fps',
  'num_inference_steps',
  'guidance_scale',
  'seed',
  'negative_prompt',
]

export function Summary() {
  return (
    <button
      type="button"
      class="summary"
      aria-expanded={unfolded.value}
      aria-controls="options"
      onClick={() => {
        unfolded.value = !unfolded.value
      }}
    >
      <span class="unseen">Options: </span>
      <span>{summary().join(' · ') || 'Options'}</span>
    </button>
  )
}

function summary(): readonly string[] {
  const fields = new Map(model.value?.fields.map((field) => [field.name, field]))
  const shown = (name: string) => {
    const field = fields.get(name)
    return field && settingOf(field)
  }
  const [width, height, frames, steps, seed] = [
    'width',
    'height',
    'num_frames',
    'num_inference_steps',
    'seed',
  ].map(shown)
  const others = Object.keys(settings.value).filter(
    (name) => !first.slice(0, 7).includes(name) && name !== 'strength',
  )
  return [
    model.value?.id,
    width && height && `${width} × ${height}`,
    frames && `${frames} frames`,
    steps && `${steps} steps`,
    model.value?.ready === false ? 'loading' : undefined,
    model.value?.ready && (seed === undefined ? 'random seed' : `seed ${seed}`),
    others.length > 0 && `${others.length} more`,
  ].filter((part): part is string => typeof part === 'string')
}

export function Options() {
  const fields = (model.value?.fields ?? []).filter(
    ({ name, schema }) => kindOf(schema) && name !== 'strength',
  )
  const main = first.flatMap((name) => fields.find((field) => field.name === name) ?? [])
  const rest = fields.filter((field) => !main.includes(field))
  const changed = Object.keys(settings.value).length > 0
  return (
    <div id="options" class="options" hidden={!unfolded.value}>
      <ModelChoice />
      <div class="fields">
        {main.map((field) => (
          <FieldControl key={field.name} field={field} />
        ))}
      </div>
      <SourceField />
      {groups(rest).map(([name, members]) => (
        <fieldset key={name}>
          <legend>{name}</legend>
          <div class="fields">
            {members.map((field) => (
              <FieldControl key={field.name} field={field} />
            ))}
          </div>
        </fieldset>
      ))}
      {changed && (
        <button type="button" class="plain" onClick={() => write({ settings: {} })}>
          Reset all options
        </button>
      )}
    </div>
  )
}

function ModelChoice() {
  const models = capabilities.value?.models ?? []
  if (models.length < 2) return null
  return (
    <div class="field">
      <label for="model">Model</label>
      <select
        id="model"
        value={model.value?.id ?? ''}
        onChange={(e) => write({ model: e.currentTarget.value })}
      >
        {models.map(({ id }) => (
          <option key={id}>{id}</option>
        ))}
      </select>
    </div>
  )
}

function groups(fields: readonly Field[]): readonly (readonly [string, readonly Field[]])[] {
  const names = [...new Set(fields.map(({ group }) => group))]
  return names.map((name) => [name, fields.filter(({ group }) => group === name)])
}
