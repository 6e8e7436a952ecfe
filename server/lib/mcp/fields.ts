import type { JsonSchemaType } from '@modelcontextprotocol/server'
import type { Api } from './api.js'

/** What `/v1/capabilities` says of a field of a request, as far as a tool's schema needs it. */
interface Field {
  readonly name: string
  readonly schema: JsonSchemaType
  readonly description: string
}

/**
 * The JSON Schema of make_video's arguments: the fields of the server. Unknown names are not refused here, because the server
 * knows what they could mean.
 */
export async function readFields(api: Api): Promise<JsonSchemaType> {
  const { fields } = await api.json<{ fields: readonly Field[] }>('/capabilities')
  const properties = fields.map(({ name, schema, description }) => [name, { ...schema, description }])
  return { type: 'object', properties: Object.fromEntries(properties), required: ['prompt'] }
}
