import type { JobStore } from './job_store.js'

/** What is kept of jobs that have ended. */
export interface Kept {
  /** Jobs, the newest. */
  readonly jobs: number
  /** Milliseconds after the end of a job. */
  readonly ms: number
  /** Bytes of videos. */
  readonly bytes: number
}

/** The ids of the ended jobs that are more, older or larger than is kept. */
export function beyond(store: JobStore, kept: Kept): string[] {
  if (store.size <= kept.jobs && kept.ms === Infinity && kept.bytes === Infinity) return []
  let count = 0
  let bytes = 0
  return store.ended().flatMap(({ id, made, endedAt = Date.now() }) => {
    count++
    bytes += made?.bytes ?? 0
    const isBeyond = count > kept.jobs || bytes > kept.bytes || Date.now() - endedAt > kept.ms
    return isBeyond ? [id] : []
  })
}
