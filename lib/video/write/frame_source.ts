import { invalidArgument, TorchreelError } from '../../errors.js'
import type { VideoFacts } from '../facts.js'

/** The input of an encoder: rgb24 frames, each (height, width, 3). Frames may still be computed while it runs. */
export interface FrameSource {
  readonly width: number
  readonly height: number
  /** Frames per second. */
  readonly fps: number
  readonly frames: readonly Uint8Array[] | AsyncIterable<Uint8Array>
  readonly facts?: VideoFacts
}

/**
 * Checks an array of frames.
 *
 * @returns the number of frames; undefined if they are still being computed
 */
export function checkFrames(source: FrameSource): number | undefined {
  if (!Array.isArray(source.frames)) return undefined
  const frames: readonly Uint8Array[] = source.frames
  frames.forEach((frame, index) => {
    checkFrame(frame, index, source)
  })
  return frames.length
}

function checkFrame(frame: Uint8Array, index: number, { width, height }: FrameSource): void {
  // With a wrong length, ffmpeg would silently shift the following frames or drop the last one.
  if (frame.byteLength !== width * height * 3) {
    throw new TorchreelError(
      'ERR_INTERNAL',
      `frame ${index} has ${frame.byteLength} bytes; ${width}×${height} rgb24 has ${width * height * 3}`,
    )
  }
}

/** Checks and counts the frames of a source as they pass. */
export class CheckedFrames implements AsyncIterable<Uint8Array> {
  count = 0
  readonly source: FrameSource

  constructor(source: FrameSource) {
    this.source = source
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const frame of this.source.frames) {
      checkFrame(frame, this.count, this.source)
      this.count++
      yield frame
    }
    if (this.count === 0) throw invalidArgument('frames', 'at least one frame', 0)
  }
}
