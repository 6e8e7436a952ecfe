import { z } from 'zod'
import { fields } from '../fields.js'
import { deletedSchema, videoListSchema, videoSchema } from '../videos.js'

// The description of the API, from the table of fields and the schemas of the answers.

const errorSchema = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string().nullable(),
    }),
  })
  .meta({ id: 'Error' })

const reference = (name: string) => ({ $ref: `#/components/schemas/${name}` })

function schemas() {
  const registry = z.registry<{ id: string }>()
  const named = {
    Video: videoSchema,
    VideoList: videoListSchema,
    DeletedVideo: deletedSchema,
    Error: errorSchema,
  }
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id })
  return z.toJSONSchema(registry, { uri: (id) => `#/components/schemas/${id}` }).schemas
}

/** The fields of a request by their names on the wire. */
function requestSchema() {
  const properties = Object.fromEntries(
    fields.map(({ name, schema, description, default_text: otherwise, default: value }) => [
      name,
      {
        ...schema,
        description: otherwise === undefined ? description : `${description} (default: ${otherwise})`,
        ...(value !== undefined && { default: value }),
      },
    ]),
  )
  return {
    type: 'object',
    required: ['prompt'],
    properties: {
      prompt: { type: 'string', description: 'what the video shows' },
      model: { type: 'string', description: 'one of /v1/models (default: the first)' },
      size: {
        type: 'string',
        pattern: '^\\d+x\\d+$',
        description: 'WIDTHxHEIGHT, instead of width and height',
      },
      seconds: { type: ['number', 'string'], description: 'length; num_frames comes first' },
      ...properties,
      lora: { type: 'string', description: "NAME or NAME:SCALE of the server's own folder" },
    },
  }
}

const upload = { type: 'string', format: 'binary', description: 'a video to start from' }

export function describeApi(version: string): object {
  const json = (schema: object) => ({ content: { 'application/json': { schema } } })
  const bytes = (type: string) => ({ content: { [type]: { schema: { type: 'string', format: 'binary' } } } })
  const form = (field: string) => {
    const schema = requestSchema()
    return { ...schema, properties: { ...schema.properties, [field]: upload } }
  }
  const failure = { description: 'an error in OpenAI’s form', ...json(reference('Error')) }
  const answers = (description: string, content: object) => ({
    responses: { 200: { description, ...content }, default: failure },
  })
  const id = { name: 'id', in: 'path', required: true, schema: { type: 'string' } }
  const query = (name: string, schema: object) => ({ name, in: 'query', schema })
  const create = (field: string) => ({
    required: true,
    content: {
      'application/json': { schema: requestSchema() },
      'multipart/form-data': { schema: form(field) },
    },
  })
  const video = json(reference('Video'))
  return {
    openapi: '3.1.0',
    info: { title: 'torchreel-server', version, description: 'Text to video over HTTP.' },
    security: [{ key: [] }, {}],
    paths: {
      '/v1/videos': {
        post: {
          summary: 'Ask for a video',
          requestBody: create('input_reference'),
          ...answers('The accepted job', video),
        },
        get: {
          summary: 'List videos',
          parameters: [
            query('after', { type: 'string' }),
            query('limit', { type: 'integer', minimum: 1, maximum: 100, default: 20 }),
            query('order', { enum: ['asc', 'desc'], default: 'desc' }),
          ],
          ...answers('A page of videos', json(reference('VideoList'))),
        },
      },
      '/v1/videos/sync': {
        post: {
          summary: 'Make a video and wait for it',
          requestBody: create('input_reference'),
          ...answers('The video', bytes('video/mp4')),
        },
      },
      '/v1/videos/edits': {
        post: {
          summary: 'Change a video as the prompt says',
          requestBody: create('video'),
          ...answers('The accepted job', video),
        },
      },
      '/v1/videos/{id}': {
        parameters: [id],
        get: { summary: 'Look at a video', ...answers('The video as it is now', video) },
        delete: {
          summary: 'Remove a video; cancels it first',
          ...answers('It is gone', json(reference('DeletedVideo'))),
        },
      },
      '/v1/videos/{id}/content': {
        parameters: [id],
        get: {
          summary: 'Get the files of a video; ranges are possible',
          parameters: [
            query('variant', { enum: ['video', 'thumbnail', 'spritesheet', 'preview'], default: 'video' }),
            query('download', { type: 'string' }),
          ],
          ...answers('The file', bytes('video/mp4')),
        },
      },
      '/v1/videos/{id}/cancel': {
        parameters: [id],
        post: { summary: 'Cancel a video', ...answers('The video as it is now', video) },
      },
      '/v1/videos/{id}/remix': {
        parameters: [id],
        post: {
          summary: 'The same settings with another prompt; with strength it starts from that video',
          requestBody: { required: true, ...json(requestSchema()) },
          ...answers('The accepted job', video),
        },
      },
      '/v1/videos/{id}/events': {
        parameters: [id],
        get: { summary: 'Follow one video', ...answers('Events', bytes('text/event-stream')) },
      },
      '/v1/events': {
        get: { summary: 'Follow all unfinished videos', ...answers('Events', bytes('text/event-stream')) },
      },
      '/v1/models': { get: { summary: 'List the models', ...answers('Models', json({ type: 'object' })) } },
      '/v1/capabilities': {
        get: {
          summary: 'Fields, ranges and defaults of each model',
          ...answers('Capabilities', json({ type: 'object' })),
        },
      },
      '/healthz': {
        get: { summary: 'Whether the process answers', ...answers('It does', json({ type: 'object' })) },
      },
      '/readyz': {
        get: { summary: 'Whether it can make videos', ...answers('It can', json({ type: 'object' })) },
      },
    },
    components: {
      schemas: schemas(),
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
    },
  }
}
