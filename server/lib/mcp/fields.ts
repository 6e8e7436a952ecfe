import type { JsonSchemaType } from '@modelcontextprotocol/server'
import type { Field } from '../fields.js'
import type { Api } from './api.js'

type Schema = Record<string, unknown>

/** `/v1/capabilities`, as far as a tool's schema needs it. */
interface Capabilities {
  readonly models: readonly { readonly id: string; readonly fields: readonly Field[] }[]
}

/**
 * The JSON Schema of make_video's arguments: the fields of the server's models. Unknown names are not refused here, because the
 * server knows what they could mean.
 */
export async function argumentsSchema(api: Api): Promise<JsonSchemaType> {
  const { models } = await api.json<Capabilities>('/capabilities')
  const properties: Record<string, Schema> = {
    prompt: { type: 'string', minLength: 1, description: 'what the video shows' },
    model: { enum: models.map(({ id }) => id), description: 'the model', default: models[0]?.id },
    seconds: { type: 'number', description: 'duration; or give num_frames and fps' },
  }
  for (const { fields } of models)
    for (const field of fields) {
      const schema = schemaOf(field)
      const other = properties[field.name]
      properties[field.name] = other ? common(other, schema) : schema
    }
  return { type: 'object', properties, required: ['prompt'] } as JsonSchemaType
}

function schemaOf({ schema, description, unit, default: value, default_text: otherwise }: Field): Schema {
  const words = [
    unit === undefined ? description : `${description} (${unit})`,
    otherwise && `default: ${otherwise}`,
  ]
  return {
    ...schema,
    description: words.filter(Boolean).join('; '),
    ...(value !== undefined && { default: value }),
  }
}

/** What two models have in common; the server checks the rest. */
function common(one: Schema, other: Schema): Schema {
  const shared = Object.entries(one).filter(
    ([key, value]) => JSON.stringify(other[key]) === JSON.stringify(value),
  )
  return { ...Object.fromEntries(shared), description: one.description }
}
