import { type FittedOptions, type JsonSchema, type ModelFacts, nearest, options } from 'torchreel/options'
import { InvalidRequest } from './errors.js'
import type { NamedLora, RequestOptions } from './jobs/job.js'

// One table of the fields of a request: from the wire to the options of `generate`. Types, ranges, defaults and descriptions
// are those of `torchreel/options`.

type OptionName = keyof RequestOptions

/** The names on the wire, with OpenAI's and vLLM-Omni's first, in the order of a form. */
const wireNames: Readonly<Record<string, OptionName>> = {
  width: 'width',
  height: 'height',
  num_frames: 'frames',
  fps: 'fps',
  num_inference_steps: 'steps',
  guidance_scale: 'guidanceScale',
  negative_prompt: 'negativePrompt',
  seed: 'seed',
  scheduler: 'scheduler',
  eta: 'eta',
  clip_skip: 'clipSkip',
  free_u: 'freeU',
  strength: 'strength',
  feature_cache: 'featureCache',
  guidance_interval: 'guidanceInterval',
  vae_tiling: 'vaeTiling',
  window: 'window',
}

const synonyms: Readonly<Record<string, string>> = { steps: 'num_inference_steps', frames: 'num_frames' }

/** Fields that are read apart from the table. */
const ownFields = ['prompt', 'model', 'size', 'seconds', 'lora', 'extra_params', 'user'] as const

/** What other servers have and this one does not, and what to do instead. */
const unsupported: Readonly<Record<string, string>> = {
  guidance_scale_2: 'the models have one denoiser',
  boundary_ratio: 'the models have one denoiser',
  true_cfg_scale: 'use guidance_scale',
  flow_shift: 'choose a scheduler',
  generate_sound: 'the models make no sound',
  sound_duration: 'the models make no sound',
  generate_audio: 'the models make no sound',
  enable_frame_interpolation: 'use num_frames and fps',
  image_reference: 'no model here starts from an image',
  video_reference: 'upload the video as input_reference',
  audio_reference: 'the models make no sound',
  input_reference: 'addresses are not fetched; upload the video as a file',
  video: 'upload the video as a file, or name one of this server in /v1/videos/edits',
  image_url: 'addresses are not fetched; upload the video as input_reference',
  file_id: 'there is no store of files; upload the video as input_reference',
  n: 'send a request for each video',
}

/** The descriptions of options that may be lists in `generate`. */
const descriptionsOfOne: Partial<Record<OptionName, string>> = {
  seed: 'the same seed gives the same video',
  negativePrompt: 'things that the video must not show',
}

/** The words of a request: text from a form, any JSON value from JSON. */
export type Words = ReadonlyMap<string, unknown>

export interface Field {
  /** On the wire. */
  readonly name: string
  /** In `generate`. */
  readonly option: OptionName
  readonly group: string
  readonly description: string
  readonly default?: unknown
  readonly default_text?: string
  readonly unit?: string
  readonly flag?: string
  readonly schema: JsonSchema
}

/** The table, as it is for any model. */
export const fields: readonly Field[] = Object.entries(wireNames).map(([name, option]) => {
  const facts = options.find((one) => one.owner === 'call' && one.name === option)
  if (!facts?.schema) throw new Error(`torchreel has no option ${option}`)
  const { group, description, default: value, defaultText, unit, flag, schema } = facts
  return {
    ...{ name, option, group, description: descriptionsOfOne[option] ?? description },
    ...(value !== undefined && { default: value }),
    ...(defaultText !== undefined && { default_text: defaultText.replaceAll('`', '') }),
    ...(unit !== undefined && { unit }),
    ...(flag !== undefined && { flag }),
    schema: ofOneVideo(option, schema),
  }
})

/** A model's own words: without what is true of other families. */
function describe({ option, description }: Field, { sizeMultiple, frameMultiple }: ModelFacts): string {
  if (option === 'width' || option === 'height') return `${option}, a multiple of ${sizeMultiple}`
  if (option !== 'frames') return description.replace('; not for Wan', '')
  return frameMultiple > 1
    ? `frames of the video; a multiple of ${frameMultiple} plus 1`
    : 'frames of the video'
}

/** A call of `generate` may make several videos, a request makes one: no lists with a value for each. */
function ofOneVideo(option: OptionName, schema: JsonSchema): JsonSchema {
  const { anyOf } = schema as { anyOf?: readonly JsonSchema[] }
  return anyOf && (option === 'seed' || option === 'negativePrompt') ? (anyOf[0] as JsonSchema) : schema
}

/** The fields of a model: with its defaults, without those that it refuses. */
export function fieldsOf(facts: ModelFacts, maxSteps: number): readonly Field[] {
  const { defaults, size, sizeMultiple, refusedOptions } = facts
  const values: Readonly<Record<string, unknown>> = { ...defaults, ...size }
  return fields.flatMap((field) => {
    const { option } = field
    if (Object.hasOwn(refusedOptions, option)) return []
    const { default_text: _, ...rest } = field
    const known = values[option]
    const schema = { ...field.schema }
    if (option === 'width' || option === 'height')
      Object.assign(schema, { multipleOf: sizeMultiple, minimum: sizeMultiple })
    if (option === 'steps') Object.assign(schema, { maximum: maxSteps })
    const description = describe(field, facts)
    return [
      known === undefined
        ? { ...field, description, schema }
        : { ...rest, description, schema, default: known },
    ]
  })
}

/** The name on the wire of an option of `generate`. */
export function wireNameOf(option: string | undefined): string | undefined {
  const [whole = '', ...within] = option?.split('.') ?? []
  const name = Object.keys(wireNames).find((one) => wireNames[one] === whole)
  return option === undefined ? undefined : [name ?? whole, ...within].join('.')
}

/** A request's options by their names on the wire. */
export function onWire(given: RequestOptions): Record<string, unknown> {
  const values = given as unknown as Readonly<Record<string, unknown>>
  return Object.fromEntries(
    fields.flatMap(({ name, option }) => (values[option] === undefined ? [] : [[name, values[option]]])),
  )
}

export interface ReadFields {
  readonly prompt: string | undefined
  readonly model: string | undefined
  /** Without a seed that was not given. */
  readonly options: Partial<RequestOptions>
  readonly loras: readonly NamedLora[]
  readonly seconds: number | undefined
}

/**
 * Reads the fields of a request. Ranges are not checked here.
 *
 * @throws InvalidRequest for unknown fields and values of another type
 */
export function readFields(words: Words): ReadFields {
  const all = withExtraParams(words)
  const values: Record<string, unknown> = {}
  for (const [given, value] of all) {
    if ((ownFields as readonly string[]).includes(given)) continue
    const name = Object.hasOwn(synonyms, given) ? (synonyms[given] as string) : given
    const field = fields.find((one) => one.name === name)
    if (!field) throw unknownField(given)
    if (value !== null) values[field.option] = fromWire(field, value)
  }
  const size = readSize(all.get('size'))
  return {
    prompt: readText('prompt', all.get('prompt')),
    model: readText('model', all.get('model')),
    options: { ...values, ...size } as Partial<RequestOptions>,
    loras: readLoras(all.get('lora')),
    seconds: readNumber('seconds', all.get('seconds')),
  }
}

/** The frames of so many seconds, as the model can make them. */
export function framesOf(seconds: number, fps: number, { frameMultiple }: ModelFacts): number {
  const frames = Math.max(1, Math.round(seconds * fps))
  return Math.round((frames - 1) / frameMultiple) * frameMultiple + 1
}

export const secondsOf = ({ frames, fps }: Pick<FittedOptions, 'frames' | 'fps'>): number =>
  Math.round((frames / fps) * 1000) / 1000

/** The same names once more: `extra_params` as JSON text, as an object, or as `extra_params[name]`. */
function withExtraParams(words: Words): Map<string, unknown> {
  const all = new Map<string, unknown>()
  const put = (name: string, value: unknown) => {
    if (all.has(name)) throw new InvalidRequest(`${name} is given twice`, name)
    all.set(name, value)
  }
  for (const [name, value] of words) {
    const inner = /^extra_(?:params|body)\[([^[\]]+)\]$/.exec(name)?.[1]
    if (inner !== undefined) put(inner, value)
    else if (name === 'extra_params' || name === 'extra_body') {
      const object = typeof value === 'string' ? parseJson(name, value) : value
      if (typeof object !== 'object' || object === null || Array.isArray(object))
        throw new InvalidRequest(`${name} must be an object`, name)
      for (const [key, one] of Object.entries(object)) put(key, one)
    } else put(name, value)
  }
  return all
}

/** A value from the wire: in a form, numbers, true and false, and JSON are text. */
function fromWire({ name, schema }: Field, value: unknown): unknown {
  if (typeof value !== 'string') return value
  const {
    type,
    enum: words,
    anyOf = [],
  } = schema as {
    type?: string
    enum?: readonly string[]
    anyOf?: readonly { type?: string }[]
  }
  if (type === 'string' || words) return value
  const text = value.trim()
  const types = [type, ...anyOf.map((one) => one.type)]
  if (/^[[{]/.test(text)) return parseJson(name, text)
  if (types.includes('boolean') && /^(true|false)$/.test(text)) return text === 'true'
  const number = Number(text)
  if (text === '' || Number.isNaN(number))
    throw new InvalidRequest(`${name} must be a number, got ${JSON.stringify(value.slice(0, 60))}`, name)
  return number
}

function readText(name: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string') return value
  throw new InvalidRequest(`${name} must be a string`, name)
}

function readNumber(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof number === 'number' && number > 0 && number < 86_400) return number
  throw new InvalidRequest(`${name} must be a number above 0, got ${JSON.stringify(value)}`, name)
}

function readSize(value: unknown): { width: number; height: number } | undefined {
  if (value === undefined || value === null || value === 'auto') return undefined
  const [, width, height] = (typeof value === 'string' && /^(\d{1,5})x(\d{1,5})$/.exec(value)) || []
  if (width === undefined) throw new InvalidRequest("size must be WIDTHxHEIGHT, such as '256x256'", 'size')
  return { width: Number(width), height: Number(height) }
}

/** Of a file in the server's folder, without its ending. */
export const loraName = /^[A-Za-z0-9][\w.-]{0,99}$/

/** `name`, `name:scale`, { name, scale }, or a list of them. Never a path. */
function readLoras(value: unknown): readonly NamedLora[] {
  if (value === undefined || value === null || value === '') return []
  const given = typeof value === 'string' && /^\s*[[{]/.test(value) ? parseJson('lora', value) : value
  return [given].flat().map((one) => {
    const [name, scale] =
      typeof one === 'string'
        ? (/^([^:]*)(?::(.+))?$/.exec(one) ?? []).slice(1)
        : [(one as NamedLora | null)?.name, (one as NamedLora | null)?.scale]
    const number = typeof scale === 'string' && scale.trim() === '' ? Number.NaN : Number(scale ?? 1)
    if (typeof name !== 'string' || !loraName.test(name))
      throw new InvalidRequest(
        "lora must name LoRAs of the server's own folder: a name, or { name, scale }",
        'lora',
      )
    if (!(number >= -100 && number <= 100))
      throw new InvalidRequest('the scale of a lora must be from -100 to 100', 'lora')
    return { name, scale: number }
  })
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new InvalidRequest(`${name} must be JSON`, name)
  }
}

function unknownField(name: string): InvalidRequest {
  const base = name.split('[')[0] as string
  const shown = name.slice(0, 60)
  for (const one of [name, base, /\[(\w+)\]/.exec(name)?.[1] ?? '']) {
    if (Object.hasOwn(unsupported, one))
      return new InvalidRequest(`${shown} is not supported: ${unsupported[one]}`, shown, 'unsupported')
  }
  const known = [
    ...fields.map((field) => field.name),
    ...Object.keys(synonyms),
    ...ownFields,
    'input_reference',
    'video',
  ]
  const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  const meant = nearest(snake, known, Math.max(2, Math.floor(name.length / 3))) ?? withWords(snake, known)
  const hint = meant === undefined ? '' : `; did you mean ${meant}?`
  return new InvalidRequest(`there is no field ${shown}${hint}`, shown, 'unknown_field')
}

/** The first name that has all words of this one, also cut short: num_step is in num_inference_steps. */
function withWords(name: string, known: readonly string[]): string | undefined {
  const words = name.split('_').filter((word) => word.length > 2)
  if (words.length === 0) return undefined
  return known.find((one) => words.every((word) => one.split('_').some((whole) => whole.startsWith(word))))
}
