import { existsSync } from 'node:fs'
import path from 'node:path'
import { notFound, unavailable } from './errors.js'
import type { Jobs, ServedModel } from './jobs/jobs.js'
import type { ModelSource } from './work/run_job.js'

/**
 * The models to load, from `NAME` or `ID=NAME`: a folder is known by its last part, others by their name.
 *
 * @throws Error for two of one id
 */
export function modelSources(names: readonly string[]): readonly ModelSource[] {
  const sources = names.map((text) => {
    const [, id, named] = /^([\w.-]+)=(.+)$/.exec(text) ?? []
    const model = named ?? text
    const isFolder = model !== 'shapes' && existsSync(model)
    return {
      id: id ?? (isFolder ? path.basename(path.resolve(model)) : model),
      model: isFolder ? path.resolve(model) : model,
    }
  })
  const twice = sources.find(({ id }, index) => sources.findIndex((one) => one.id === id) !== index)
  if (twice)
    throw new Error(`two models are called ${twice.id}; name one of them: --model OTHER=${twice.model}`)
  return sources
}

/** The models that requests may name. */
export class Models {
  readonly #jobs: Jobs
  /** The ids that the server was started with; the first one is the default. */
  readonly #ids: readonly string[]
  /** Other names for them. */
  readonly #aliases: ReadonlyMap<string, string>

  constructor(jobs: Jobs, ids: readonly string[], aliases: Readonly<Record<string, string>>) {
    this.#jobs = jobs
    this.#ids = ids
    this.#aliases = new Map(Object.entries(aliases))
  }

  /** All ids, with what workers have told of them. */
  async all(): Promise<{ id: string; served: ServedModel | undefined }[]> {
    const served = new Map((await this.#jobs.models()).map((model) => [model.id, model]))
    return [...new Set([...this.#ids, ...served.keys()])].map((id) => ({ id, served: served.get(id) }))
  }

  /**
   * The model of a request.
   *
   * @param name undefined: the first one
   * @throws ApiError 404 for an unknown name, 503 for one that no worker has loaded yet
   */
  async find(name: string | undefined): Promise<ServedModel> {
    const all = await this.all()
    const id = name === undefined || name === '' ? all[0]?.id : (this.#aliases.get(name) ?? name)
    const found = all.find((model) => model.id === id)
    if (!found) {
      const known = all.map((model) => model.id).join(', ')
      throw notFound(
        `there is no model ${name?.slice(0, 100) ?? ''}; this server has ${known}`,
        'model_not_found',
      )
    }
    if (found.served) return found.served
    const why = await this.#jobs.ready().then(
      () => '',
      (error: Error) => `: ${error.message}`,
    )
    throw unavailable(`no worker has loaded ${found.id} yet${why}`, 'model_not_loaded')
  }
}
