import type { NativeEvent } from '../addon/interface.js'
import type { PreviewColours } from '../families/family.js'
import { ProgressClock } from '../progress.js'
import type { Tensor } from '../tensor.js'
import type { VideoFacts } from '../video/facts.js'
import { Video } from '../video/video.js'
import { Recording } from '../video/write/recording.js'
import type { SizedCall } from './fit_call.js'
import { makePreview } from './preview.js'

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

/** Handles the reports of a job: progress, previews and frames; at the end it makes the videos and the output file. */
export class Job {
  readonly #call: SizedCall
  readonly #facts: (index: number) => VideoFacts
  readonly #previewColours: PreviewColours | undefined
  readonly #warnings: string[] = []
  readonly #clock: ProgressClock
  readonly #onFrame: ((frame: DecodedFrame) => void) | undefined
  readonly #recording: Recording | undefined
  #pixels: Uint8Array | undefined
  #latents: Tensor | undefined

  constructor(
    call: SizedCall,
    facts: (index: number) => VideoFacts,
    previewColours: PreviewColours | undefined,
    onFrame: ((frame: DecodedFrame) => void) | undefined,
  ) {
    this.#call = call
    this.#facts = facts
    this.#previewColours = previewColours
    this.#clock = new ProgressClock(call.onProgress)
    this.#onFrame = onFrame
    this.#recording = call.output && new Recording(call.output, call, call)
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
    this.#pixels ??= new Uint8Array(this.#call.videos * this.#call.frames * length)
    this.#pixels.set(data, first * length)
    for (let at = 0; at < count; at++) {
      this.#recording?.take(this.#pixels.subarray((first + at) * length, (first + at + 1) * length))
      this.#onFrame?.({
        video: Math.floor((first + at) / this.#call.frames),
        index: (first + at) % this.#call.frames,
        width,
        height,
        data: data.subarray(at * length, (at + 1) * length),
      })
    }
  }

  async #showPreviews(event: Extract<NativeEvent, { type: 'latents' }>): Promise<void> {
    const { videos, frames, fps, onPreview } = this.#call
    const latentFps = (fps * (event.shape[2] as number)) / frames
    for (let index = 0; index < videos; index++) {
      const { step, steps } = event
      await onPreview?.({
        index,
        step,
        steps,
        video: makePreview(event, index, latentFps, this.#previewColours),
      })
    }
  }

  /** The videos, when all frames are there and the file that was asked for is whole. */
  async finish(): Promise<Video[]> {
    const { videos, width, height, fps, returnLatents } = this.#call
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
    const { prompts, negativePrompts } = this.#call
    const facts = this.#facts(index)
    return {
      ...facts,
      warnings: [...(facts.warnings ?? []), ...this.#warnings],
      prompt: prompts[index],
      negativePrompt: negativePrompts[index],
    }
  }

  /** (1, C, F, h, w) */
  #latentsOf(index: number): Tensor {
    const { data, shape } = this.#latents as Tensor
    const length = data.length / this.#call.videos
    return { data: data.slice(index * length, (index + 1) * length), shape: [1, ...shape.slice(1)] }
  }
}
