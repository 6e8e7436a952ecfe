import type { FilesPlace } from '../files/place.js'
import type { Job, JobError, Made } from '../jobs/job.js'
import type { ServedModel } from '../jobs/jobs.js'
import type { RunnerOptions } from './run_job.js'

// What the server and the process that holds the pipelines say to each other.

export interface LoadOptions extends Omit<RunnerOptions, 'files'> {
  readonly place: FilesPlace
  /** The URL of a module that exports `loadRunner`. */
  readonly runner: string
}

export type ToChild =
  | { readonly type: 'load'; readonly options: LoadOptions }
  | { readonly type: 'run'; readonly job: Job }
  | { readonly type: 'cancel'; readonly id: string }

export type FromChild =
  | { readonly type: 'alive' }
  | { readonly type: 'loaded'; readonly models: readonly ServedModel[] }
  /** The models cannot be loaded; the process ends. */
  | { readonly type: 'unloadable'; readonly message: string }
  | { readonly type: 'progress'; readonly id: string; readonly progress: NonNullable<Job['progress']> }
  | { readonly type: 'preview'; readonly id: string }
  | { readonly type: 'made'; readonly id: string; readonly made: Made }
  | { readonly type: 'failed'; readonly id: string; readonly error: JobError }

export const aliveEvery = 5_000
