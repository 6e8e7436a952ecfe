// The server's JSON, as far as the page reads it.

export type State = 'queued' | 'running' | 'cancelling' | 'completed' | 'failed' | 'cancelled'

export type Value = string | number | boolean | readonly Value[] | { readonly [name: string]: Value }

/** The fields of a request by their names on the wire. */
export type Settings = Readonly<Record<string, Value>>

export interface Video {
  readonly id: string
  /** Percent. */
  readonly progress: number
  /** Seconds since 1970. */
  readonly created_at: number
  readonly completed_at: number | null
  readonly model: string
  readonly prompt: string | null
  /** '64x64' */
  readonly size: string
  readonly seconds: string
  readonly error: { readonly code: string; readonly message: string } | null
  readonly remixed_from_video_id: string | null
  readonly torchreel: {
    readonly state: State
    readonly stage: string | null
    readonly step: number | null
    readonly steps: number | null
    readonly eta_ms: number | null
    /** From 1. */
    readonly queue_position: number | null
    readonly seed: number
    /** The name of a key; 'local' on a server without keys. */
    readonly owner: string
    readonly settings: Settings
    readonly warnings: readonly string[]
    /** The address of the newest preview, an animated PNG. */
    readonly preview: string | null
    /** Milliseconds by stage. */
    readonly timings: Readonly<Record<string, number>> | null
  }
}

export interface VideoList {
  readonly data: readonly Video[]
  readonly last_id: string | null
  readonly has_more: boolean
}

export interface Schema {
  readonly type?: string
  readonly enum?: readonly string[]
  readonly anyOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly minimum?: number
  readonly maximum?: number
  readonly multipleOf?: number
  readonly minItems?: number
}

/** One field of a request. */
export interface Field {
  /** On the wire. */
  readonly name: string
  /** In `generate`. */
  readonly option: string
  readonly group: string
  readonly description: string
  readonly default?: Value
  readonly default_text?: string
  readonly unit?: string
  /** On the command line: `--steps <n>`. */
  readonly flag?: string
  readonly schema: Schema
}

export interface Model {
  readonly id: string
  /** Whether a worker has loaded it. Until then its defaults are not known. */
  readonly ready: boolean
  readonly fields: readonly Field[]
}

export interface Capabilities {
  readonly models: readonly Model[]
}

export const unfinished = (video: Video): boolean =>
  ['queued', 'running', 'cancelling'].includes(video.torchreel.state)
