import type { NativeEvent, Stage } from '../addon/interface.js'
import type { Numbers } from '../checks/checks.js'
import type { CheckedGenerateOptions, OnProgress } from '../options/call.js'
import type { VideoFacts } from '../video/facts.js'
import { Video } from '../video/video.js'
import { Recording } from '../video/write/recording.js'
import { previewOf } from './preview.js'

/** One frame of a job, as it was decoded. */
export interface DecodedFrame {
  /** Of which prompt, from 0. */
  readonly video: number
  /** Which frame of that video, from 0. */
  readonly index: number
  readonly width: number
  readonly height: number
  /** rgb24, (height, width, 3). */
  readonly data: Uint8Array
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

/**
 * Takes what a job reports: tells progress, shows previews, hands frames on, and makes the videos, and the file that was
 * asked for, at the end.
 */
export class Job {
  readonly #options: CheckedGenerateOptions
  readonly #facts: (index: number) => VideoFacts
  readonly #warnings: string[] = []
  readonly #clock: ProgressClock
  readonly #onFrame: ((frame: DecodedFrame) => void) | undefined
  readonly #recording: Recording | undefined
  #pixels: Uint8Array | undefined
  #latents: Numbers | undefined

  constructor(
    options: CheckedGenerateOptions,
    facts: (index: number) => VideoFacts,
    onFrame: ((frame: DecodedFrame) => void) | undefined,
  ) {
    this.#options = options
    this.#facts = facts
    this.#clock = new ProgressClock(options.onProgress)
    this.#onFrame = onFrame
    this.#recording = options.output && new Recording(options.output, options, options)
  }

  async take(event: NativeEvent): Promise<void> {
    if (event.type === 'progress') {
      // The encoder starts while the network runs for the last time, so that its start costs nothing.
      if (event.stage === 'denoise' && event.step + 1 >= event.steps) this.#recording?.begin(this.#factsOf(0))
      await this.#clock.tell(event.stage, event.step, event.steps)
    } else if (event.type === 'frames') {
      this.#takeFrames(event)
    } else if (event.type === 'warning') {
      this.#warnings.push(event.message)
    } else if (event.type === 'latents' && event.step < event.steps) {
      await this.#showPreviews(event)
    } else if (event.type === 'latents') {
      this.#latents = event
    }
  }

  #takeFrames({ first, count, width, height, data }: Extract<NativeEvent, { type: 'frames' }>): void {
    const length = height * width * 3
    this.#pixels ??= new Uint8Array(this.#options.videos * this.#options.frames * length)
    this.#pixels.set(data, first * length)
    for (let at = 0; at < count; at++) {
      this.#recording?.take(this.#pixels.subarray((first + at) * length, (first + at + 1) * length))
      this.#onFrame?.({
        video: Math.floor((first + at) / this.#options.frames),
        index: (first + at) % this.#options.frames,
        width,
        height,
        data: data.subarray(at * length, (at + 1) * length),
      })
    }
  }

  async #showPreviews(event: Extract<NativeEvent, { type: 'latents' }>): Promise<void> {
    const { videos, fps, onPreview } = this.#options
    for (let index = 0; index < videos; index++) {
      const { step, steps } = event
      await onPreview?.({ index, step, steps, video: previewOf(event, index, fps) })
    }
  }

  /** The videos, when all frames are there and the file that was asked for is whole. */
  async finish(): Promise<Video[]> {
    const { videos, width, height, fps, returnLatents } = this.#options
    const pixels = this.#pixels as Uint8Array
    const length = pixels.length / videos
    const timings = this.#clock.timings()
    const made = Array.from({ length: videos }, (_, index) => {
      const data = pixels.subarray(index * length, (index + 1) * length)
      const latents = returnLatents ? this.#latentsOf(index) : undefined
      const file = this.#recording?.path
      return new Video({ width, height, fps, data, ...this.#factsOf(index), timings, latents, file })
    })
    await this.#recording?.end(made[0] as Video)
    return made
  }

  /** Takes back what was written. */
  async discard(reason: unknown): Promise<void> {
    await this.#recording?.discard(reason)
  }

  #factsOf(index: number): VideoFacts {
    const { prompts, negativePrompts } = this.#options
    const facts = this.#facts(index)
    return {
      ...facts,
      warnings: [...(facts.warnings ?? []), ...this.#warnings],
      prompt: prompts[index],
      negativePrompt: negativePrompts[index],
    }
  }

  /** (1, C, F, h, w) */
  #latentsOf(index: number): Numbers {
    const { data, shape } = this.#latents as Numbers
    const length = data.length / this.#options.videos
    return { data: data.slice(index * length, (index + 1) * length), shape: [1, ...shape.slice(1)] }
  }
}
