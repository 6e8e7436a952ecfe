import type { Hono } from 'hono'
import type { Logger } from 'pino'
import type { Files } from './files/files.js'
import type { FilesPlace } from './files/place.js'
import type { AppEnv } from './http/app.js'
import type { Jobs, Worker } from './jobs/jobs.js'

/** The limits of a server. Each is an option of the command line. */
export interface ServerLimits {
  /** Bytes of JSON. @defaultValue 65536 */
  readonly json: number
  /** Bytes of an uploaded video. @defaultValue 64 MiB */
  readonly upload: number
  /** Frames × width × height of a video. @defaultValue 2^24, such as 16 frames of 1024 × 576 */
  readonly pixels: number
  /** Denoising steps. @defaultValue 200 */
  readonly steps: number
  /** Waiting jobs. @defaultValue 256 */
  readonly waiting: number
  /** Unfinished jobs of a key. @defaultValue 8 */
  readonly unfinished: number
  /** Videos that a key may ask for in a minute. @defaultValue 30 */
  readonly perMinute: number
  /** Open streams of events of a key. @defaultValue 8 */
  readonly streamsOfKey: number
  /** Open streams of events. @defaultValue 200 */
  readonly streams: number
  /** Milliseconds that a job may run. @defaultValue an hour */
  readonly runMs: number
  /** Milliseconds that a request may take to arrive. @defaultValue 5 minutes */
  readonly requestMs: number
}

export const defaultLimits: ServerLimits = {
  json: 64 * 1024,
  upload: 64 * 2 ** 20,
  pixels: 2 ** 24,
  steps: 200,
  waiting: 256,
  unfinished: 8,
  perMinute: 30,
  streamsOfKey: 8,
  streams: 200,
  runMs: 3_600_000,
  requestMs: 300_000,
}

/** A queue, and where the files of its jobs are. */
export interface SharedQueue {
  readonly jobs: Jobs
  readonly files: Files
  /** The same as data, for the processes with the pipelines. */
  readonly place: FilesPlace
  /** Seconds that an address of the storage is valid for; without it, the server passes the bytes on. */
  readonly linkSeconds?: number
}

export interface ServerOptions {
  /** `shapes`, folders, `owner/name`, or `ID=` and one of these. The first is the default. @defaultValue ['shapes'] */
  readonly models?: readonly string[]
  /** Other names for models: { 'sora-2': 'shapes' }. */
  readonly aliases?: Readonly<Record<string, string>>
  /** One process with all models for each. @defaultValue ['auto'] */
  readonly devices?: readonly string[]
  /** More options of the pipelines, such as `dtype` and `offload`. */
  readonly pipeline?: Readonly<Record<string, unknown>>
  /** The folder of the jobs and their files; it belongs to this server alone. @defaultValue ~/.local/share/torchreel-server */
  readonly data?: string
  /** @defaultValue 127.0.0.1 */
  readonly host?: string
  /** 0: any free one. @defaultValue 8080 */
  readonly port?: number
  /** More names that requests may have in `Host`. */
  readonly hostNames?: readonly string[]
  /** Origins of other pages that may use this server, such as https://studio.example. */
  readonly origins?: readonly string[]
  /** The address that clients use, behind a proxy. */
  readonly publicUrl?: string
  /** Believe `X-Forwarded-Host` and `X-Forwarded-Proto`. */
  readonly trustProxy?: boolean
  /** The file of keys, as `--new-key` writes it. Without it the server is for this machine alone. */
  readonly keys?: string
  /** Serve other machines without keys. */
  readonly noLogin?: boolean
  /** @defaultValue true */
  readonly page?: boolean
  readonly ffmpeg?: string
  /** The folder of the LoRAs that requests may name. */
  readonly loras?: string
  readonly limits?: Partial<ServerLimits>
  /** Ended jobs that are kept. @defaultValue 10000 */
  readonly keepJobs?: number
  /** @defaultValue for ever */
  readonly keepDays?: number
  /** Bytes of videos. @defaultValue any number */
  readonly keepBytes?: number
  /** Milliseconds that a cancelled job has for its end. @defaultValue 10000 */
  readonly cancelGrace?: number
  /** Another queue, as for many machines; without workers of its own, unless `devices` are given. */
  readonly queue?: SharedQueue
  /** Workers instead of the processes with the pipelines. */
  readonly workers?: readonly Worker[]
  /** The URL of a module that exports `loadRunner`, for the processes to use instead of pipelines. */
  readonly runner?: string
  /** Adds routes behind the key, such as /mcp. */
  readonly mount?: (app: Hono<AppEnv>, server: { readonly jobs: Jobs; readonly files: Files }) => void
  /** @defaultValue JSON lines on stderr */
  readonly logger?: Logger
}
