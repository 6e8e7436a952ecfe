// The draft in the composer. It stays in localStorage until it has become a video.
import { computed, effect, signal } from '@preact/signals'
import type { Field, Model, Settings, Value, Video } from './protocol.ts'
import { capabilities } from './videos.ts'

export interface Draft {
  readonly prompt: string
  readonly model: string | undefined
  /** What was set by hand; all else is the model's default. */
  readonly settings: Settings
  /** The id of the video to start from. */
  readonly from: string | undefined
}

const empty: Draft = { prompt: '', model: undefined, settings: {}, from: undefined }
const place = 'torchreel.draft'

export const draft = signal<Draft>(stored())
/** A video file to start from. It is not kept when the page is loaded again: browsers cannot store a chosen file's place. */
export const file = signal<File | undefined>(undefined)
export const unfolded = signal(false)

effect(() => localStorage.setItem(place, JSON.stringify(draft.value)))

export const model = computed<Model | undefined>(() => {
  const models = capabilities.value?.models ?? []
  return models.find(({ id }) => id === draft.value.model) ?? models[0]
})

/** The settings that the chosen model has a field for. */
export const settings = computed<Settings>(() => {
  const names = new Set(model.value?.fields.map(({ name }) => name))
  return Object.fromEntries(Object.entries(draft.value.settings).filter(([name]) => names.has(name)))
})

/** What a field will be: set by hand, or the model's default. */
export const settingOf = ({ name, default: otherwise }: Field): Value | undefined =>
  settings.value[name] ?? otherwise

/** How much of the source video may change. */
export const strength = computed<Value>(() => {
  const field = model.value?.fields.find(({ name }) => name === 'strength')
  return (field && settingOf(field)) ?? 0.8
})

export function write(change: Partial<Draft>): void {
  draft.value = { ...draft.value, ...change }
}

/** Sets a field by hand, or gives it back to the model. */
export function set(name: string, value: Value | undefined): void {
  const { [name]: _, ...rest } = draft.value.settings
  write({ settings: value === undefined ? rest : { ...rest, [name]: value } })
}

/** Empties the prompt and the source. The settings stay for the next video. */
export function clear(): void {
  write({ prompt: '', from: undefined })
  file.value = undefined
}

/** Starts a draft from a finished video. */
export function vary(video: Video): void {
  write({ prompt: video.prompt ?? '', model: video.model, from: video.id })
  file.value = undefined
}

function stored(): Draft {
  try {
    return { ...empty, ...JSON.parse(localStorage.getItem(place) ?? '{}') }
  } catch {
    return empty
  }
}
