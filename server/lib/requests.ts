import { randomBytes, randomInt } from 'node:crypto'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { checkCallFor, type FittedOptions, type ModelFacts } from 'torchreel/options'
import type { Body } from './body.js'
import { InvalidRequest, tooMany } from './errors.js'
import { framesOf, onWire, type ReadFields, readFields, type Words } from './fields.js'
import type { Files } from './files/files.js'
import type { Owner } from './http/keys.js'
import { type Job, newId, type RequestOptions } from './jobs/job.js'
import type { Jobs } from './jobs/jobs.js'
import type { Models } from './models.js'

// From a request to an accepted job.

export interface RequestLimits {
  /** Frames × width × height of a video. */
  readonly pixels: number
  readonly steps: number
  /** Unfinished jobs of a key. */
  readonly unfinished: number
}

/** How a request came: what tells a repeated one, and where its trace goes on. */
export interface Arrival {
  readonly owner: Owner
  readonly idempotencyKey?: string | undefined
  readonly isRetry: boolean
  readonly traceparent?: string | undefined
}

/** A body, and what the route says of it. */
export interface Asked extends Pick<Body, 'words' | 'upload' | 'hash'> {
  /** A finished video to start from, instead of the upload. */
  readonly source?: Job | undefined
  readonly remixOf?: string
}

export class Requests {
  readonly #jobs: Jobs
  readonly #files: Files
  readonly #models: Models
  readonly #limits: RequestLimits
  readonly #uploads: string

  constructor(jobs: Jobs, files: Files, models: Models, limits: RequestLimits, uploads: string) {
    this.#jobs = jobs
    this.#files = files
    this.#models = models
    this.#limits = limits
    this.#uploads = uploads
  }

  /**
   * Accepts a request: with the seed chosen, the input in place, and the job durable.
   *
   * @throws ApiError, TorchreelError, QueueFull, KeyReused
   */
  async accept({ words, upload, hash, source, remixOf }: Asked, arrival: Arrival): Promise<Job> {
    const hasInput = source !== undefined || upload !== undefined
    const read = readFields(words)
    const served = await this.#models.find(read.model)
    const { prompt } = read
    if (prompt === undefined || prompt.trim() === '') throw new InvalidRequest('prompt is needed', 'prompt')
    const options = this.#withFrames(read, served.facts)
    const request = {
      model: served.id,
      prompt,
      options,
      fitted: this.#check(served.facts, prompt, options, hasInput),
      hasInput,
      ...(read.loras.length > 0 && { loras: read.loras }),
      ...(remixOf !== undefined && { remixOf }),
    }
    const { owner, idempotencyKey, isRetry, traceparent } = arrival
    const id = newId()
    await this.#checkUnfinished(hash, arrival)
    try {
      if (source) await this.#copyInput(source, id)
      else if (upload) await this.#files.put(id, 'input', { path: upload.path })
      const { job, added } = await this.#jobs.add({
        ...{ id, owner: owner.name, request, bodyHash: hash, isRetry },
        ...(idempotencyKey !== undefined && { idempotencyKey }),
        ...(traceparent !== undefined && { traceparent }),
      })
      if (!added) await this.#files.remove(id)
      return job
    } catch (error) {
      await this.#files.remove(id).catch(() => {})
      throw error
    }
  }

  #withFrames({ options, seconds }: ReadFields, facts: ModelFacts): RequestOptions {
    const seed = options.seed ?? randomInt(2 ** 32)
    if (seconds === undefined || options.frames !== undefined) return { ...options, seed }
    const fps = typeof options.fps === 'number' && options.fps > 0 ? options.fps : facts.defaults.fps
    return { ...options, seed, frames: framesOf(seconds, fps, facts) }
  }

  #check(facts: ModelFacts, prompt: string, options: RequestOptions, hasInput: boolean): FittedOptions {
    const { pixels, steps } = this.#limits
    const call = { ...options, ...(hasInput && { video: 'input' }) }
    const fitted = checkCallFor(facts, prompt, call, { pixels })
    if (fitted.steps > steps)
      throw new InvalidRequest(
        `num_inference_steps must be at most ${steps}, got ${fitted.steps}`,
        'num_inference_steps',
        'err_limit_exceeded',
      )
    return fitted
  }

  /** A request that comes again, because its answer was lost, is not one more. */
  async #checkUnfinished(hash: string, { owner, idempotencyKey, isRetry }: Arrival): Promise<void> {
    const { unfinished: limit } = this.#limits
    if (limit === Infinity) return
    const unfinished = await this.#jobs.unfinished(owner.name)
    const isAgain = (job: Job) =>
      idempotencyKey === undefined ? isRetry && job.bodyHash === hash : job.idempotencyKey === idempotencyKey
    if (unfinished.length < limit || unfinished.some(isAgain)) return
    throw tooMany(`a key may have ${limit} unfinished videos`, 'too_many_unfinished', 5_000)
  }

  async #copyInput(source: Job, id: string): Promise<void> {
    const copy = path.join(this.#uploads, `copy-${randomBytes(12).toString('hex')}`)
    try {
      if (!(await this.#files.fetch(source.id, 'video.mp4', copy)))
        throw new InvalidRequest(`${source.id} has no video to start from`, 'video', 'video_not_ready')
      await this.#files.put(id, 'input', { path: copy })
    } finally {
      await rm(copy, { force: true })
    }
  }
}

/** The words of a request that has the settings of another job, but its own seed. */
export function wordsForRemix({ model, options, loras }: Job['request'], own: Words): Words {
  const { seed: _, strength: __, ...kept } = onWire(options)
  const words = new Map<string, unknown>([['model', model], ...Object.entries(kept)])
  if (loras) words.set('lora', loras)
  if (own.has('size')) for (const name of ['width', 'height']) words.delete(name)
  if (own.has('seconds')) words.delete('num_frames')
  return new Map([...words, ...own])
}
