import { randomBytes } from 'node:crypto'
import type { GenerateOptions, Progress, VideoSettings } from 'torchreel'
import type { FittedOptions } from 'torchreel/options'

// A job's record and its life: the states, and one table of what may follow what.

export const states = ['queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled'] as const
export type State = (typeof states)[number]

/** What may follow each state. Ends are final. */
const transitions: Readonly<Record<State, readonly State[]>> = {
  queued: ['running', 'cancelled', 'failed'],
  // Back to queued: the worker was lost, or the server ends.
  running: ['queued', 'cancelling', 'completed', 'failed'],
  cancelling: ['cancelled'],
  completed: [],
  failed: [],
  cancelled: [],
}

/** A job runs at most this often: one that takes its worker down twice is at fault itself. */
export const maxAttempts = 2

/** The options of `generate` that a request can set; all of them are JSON. */
export type RequestOptions = Pick<
  GenerateOptions,
  | 'frames'
  | 'width'
  | 'height'
  | 'fps'
  | 'steps'
  | 'guidanceScale'
  | 'eta'
  | 'clipSkip'
  | 'freeU'
  | 'strength'
  | 'vaeTiling'
  | 'window'
  | 'featureCache'
  | 'guidanceInterval'
> & {
  readonly seed: number
  readonly negativePrompt?: string
  readonly scheduler?: string
}

/** A LoRA of the server's own folder. */
export interface NamedLora {
  readonly name: string
  readonly scale: number
}

/** What a client asked for, checked, with the seed that was chosen. */
export interface JobRequest {
  readonly model: string
  readonly prompt: string
  readonly options: RequestOptions
  /** The options with the model's defaults. The sizes of a video to start from are not among them. */
  readonly fitted: FittedOptions
  readonly loras?: readonly NamedLora[]
  /** The job has a file `input`: the video to start from. */
  readonly hasInput: boolean
  /** The video that this one was made from. */
  readonly remixOf?: string
}

export interface JobError {
  /** torchreel's, such as `ERR_OUT_OF_MEMORY`, or `cancelled`, `worker_lost`, `timeout`. */
  readonly code: string
  readonly message: string
  /** An option of `generate`. */
  readonly parameter?: string
}

/** What is known of a finished video. */
export interface Made {
  readonly width: number
  readonly height: number
  readonly frames: number
  readonly fps: number
  readonly steps: number
  readonly guidanceScale?: number | readonly number[]
  readonly strength?: number
  readonly scheduler?: string
  readonly settings?: VideoSettings
  readonly device?: string
  readonly dtype?: string
  /** Milliseconds by stage. */
  readonly timings: Readonly<Record<string, number>>
  readonly warnings: readonly string[]
  /** Bytes of the video. */
  readonly bytes: number
}

export interface Job {
  readonly id: string
  /** The name of the key that it came with; 'local' without keys. */
  readonly owner: string
  readonly request: JobRequest
  readonly state: State
  /** Which run this is, from 1; 0 before the first. */
  readonly attempt: number
  /** Milliseconds since 1970. */
  readonly createdAt: number
  readonly startedAt?: number
  readonly endedAt?: number
  readonly expiresAt?: number
  /** Milliseconds that it waited, by a monotonic clock. */
  readonly waitedMs?: number
  readonly error?: JobError
  readonly made?: Made
  /** Of the running attempt. */
  readonly progress?: Pick<Progress, 'stage' | 'step' | 'steps' | 'etaMs'>
  /** How many previews of the running attempt have been written. */
  readonly previews: number
  /** Place among the waiting jobs, from 1. */
  readonly position?: number
  /** sha256 of the request as it came, to know a repeated one. */
  readonly bodyHash: string
  readonly idempotencyKey?: string
  /** Of the request that made it, so that a trace goes on in the worker. */
  readonly traceparent?: string
}

export const isEnded = ({ state }: Pick<Job, 'state'>): boolean => transitions[state].length === 0
export const isUnfinished = (job: Pick<Job, 'state'>): boolean => !isEnded(job)

export const mayBecome = (from: State, to: State): boolean => transitions[from].includes(to)

/** @throws Error if the table has no such transition */
export function moved(job: Job, state: State, changes: Partial<Job> = {}): Job {
  if (!mayBecome(job.state, state)) throw new Error(`${job.id} is ${job.state} and cannot become ${state}`)
  const { progress: _, position: __, ...kept } = job
  return { ...kept, ...changes, state }
}

/** What becomes of a job whose worker was lost. */
export function afterLoss(job: Job, why: string): Job {
  if (job.state === 'cancelling')
    return moved(job, 'cancelled', { error: cancelledError, endedAt: Date.now() })
  if (job.attempt < maxAttempts) return moved(job, 'queued', { previews: 0 })
  return moved(job, 'failed', { error: lostError(job.attempt, why), endedAt: Date.now() })
}

export const lostError = (attempts: number, why: string): JobError => ({
  code: 'worker_lost',
  message: `The worker was lost ${attempts} times with this job: ${why}`,
})

export const cancelledError: JobError = { code: 'cancelled', message: 'The job was cancelled.' }

export const idPattern = /^video_[a-z0-9]{26}$/

const digits = '0123456789abcdefghjkmnpqrstvwxyz'
let lastTime = 0

/** Ids sort by the time of their creation, also when the clock jumps back. 80 bits are random. */
export function newId(now: number = Date.now()): string {
  lastTime = Math.max(lastTime + 1, now)
  let time = ''
  for (let rest = lastTime; time.length < 10; rest = Math.floor(rest / 32)) time = digits[rest % 32] + time
  const random = Array.from(randomBytes(16), (byte) => digits[byte % 32]).join('')
  return `video_${time}${random}`
}

/** Ids that come later sort after this one. */
export function noteId(id: string): void {
  const time = [...id.slice('video_'.length, 'video_'.length + 10)].reduce(
    (sum, digit) => sum * 32 + digits.indexOf(digit),
    0,
  )
  lastTime = Math.max(lastTime, time)
}
