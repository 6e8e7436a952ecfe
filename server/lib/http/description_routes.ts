import { type Field, fields, fieldsOf } from '../fields.js'
import type { Models } from '../models.js'
import type { Routes } from './app.js'
import { describeApi } from './openapi.js'

export interface Described {
  readonly models: Models
  readonly limits: Readonly<Record<string, number | null>>
  readonly maxSteps: number
  readonly version: string
}

/** What this server can do, for forms, tools and readers. */
export function descriptionRoutes({ models, limits, maxSteps }: Described): Routes {
  return (app) => {
    app.get('/v1/models', async (c) => {
      const data = (await models.all()).map(({ id }) => ({
        id,
        object: 'model',
        created: 0,
        owned_by: 'torchreel',
      }))
      return c.json({ object: 'list', data })
    })
    app.get('/v1/models/:id{.+}', async (c) => {
      const { id } = await models.find(c.req.param('id'))
      return c.json({ id, object: 'model', created: 0, owned_by: 'torchreel' })
    })
    app.get('/v1/capabilities', async (c) => {
      const all = (await models.all()).map(({ id, served }) => ({
        id,
        ready: served !== undefined,
        family: served?.facts.family ?? null,
        device: served?.device ?? null,
        dtype: served?.dtype ?? null,
        fields: (served ? fieldsOf(served.facts, maxSteps) : fields) satisfies readonly Field[],
      }))
      return c.json({ models: all, limits })
    })
  }
}

export function openApiRoutes({ version }: Pick<Described, 'version'>): Routes {
  const description = describeApi(version)
  return (app) => {
    app.get('/openapi.json', (c) => c.json(description))
  }
}
