import type { Stage } from './addon/interface.js'
import type { Video } from './video/video.js'

/** How far a call is. */
export interface Progress {
  readonly stage: 'download' | Stage
  /** How much of the stage is done: bytes of a download, calls of the network, frames decoded. */
  readonly step: number
  readonly steps: number
  /** Milliseconds since the call began. */
  readonly elapsedMs: number
  /** Milliseconds until the stage ends, from its pace so far; undefined before the first step. */
  readonly etaMs: number | undefined
}

/** Called as a call goes on. What it throws or rejects with ends the call. */
export type OnProgress = (progress: Progress) => void | Promise<void>

/** The frames of a running job at the latents' size: one pixel for 8 × 8. */
export interface Preview {
  /** Of which prompt, from 0. */
  readonly index: number
  readonly step: number
  readonly steps: number
  readonly video: Video
}

/** Tells the caller how far a call is, and times its stages. */
export class ProgressClock {
  readonly #onProgress: OnProgress | undefined
  readonly #started = performance.now()
  readonly #stageStarts = new Map<string, number>()
  readonly #timings: Record<string, number> = {}

  constructor(onProgress: OnProgress | undefined) {
    this.#onProgress = onProgress
  }

  async tell(stage: Stage | 'download', step: number, steps: number): Promise<void> {
    const now = performance.now()
    if (!this.#stageStarts.has(stage)) this.#stageStarts.set(stage, now)
    const inStage = now - (this.#stageStarts.get(stage) as number)
    if (step === steps) this.#timings[stage] = inStage
    await this.#onProgress?.({
      stage,
      step,
      steps,
      elapsedMs: now - this.#started,
      etaMs: step > 0 ? (inStage / step) * (steps - step) : undefined,
    })
  }

  /** Milliseconds by stage, and of all. */
  timings(): Record<string, number> {
    return { ...this.#timings, total: performance.now() - this.#started }
  }
}
