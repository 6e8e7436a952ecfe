import { invalidArgument, TorchreelError } from '../../errors.js'
import type { VideoFacts } from '../facts.js'

/** What goes into an encoder: frames of rgb24, each (height, width, 3). They may still be in the making. */
export interface FrameSource {
  readonly width: number
  readonly height: number
  /** Frames per second. */
  readonly fps: number
  readonly frames: readonly Uint8Array[] | AsyncIterable<Uint8Array>
  readonly facts?: VideoFacts
}

/**
 * Checks frames that are there.
 *
 * @returns how many there are; undefined if they are in the making
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
  // ffmpeg would shift the frames that follow, or drop the last one, and say nothing.
  if (frame.byteLength !== width * height * 3) {
    throw new TorchreelError(
      'ERR_INTERNAL',
      `frame ${index} has ${frame.byteLength} bytes; ${width}×${height} rgb24 has ${width * height * 3}`,
    )
  }
}

/** The frames of a source, each checked before it is handed on, and counted. */
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
