/**
 * The JSON Schema of make_video's arguments: the fields of the server. Unknown names are not refused here, because the server
 * knows what they could mean.
 */
export async function readFields(api) {
  const { fields } = await api.json('/capabilities')
  const properties = fields.map(({ name, schema, description }) => [name, { ...schema, description }])
  return { type: 'object', properties: Object.fromEntries(properties), required: ['prompt'] }
}
