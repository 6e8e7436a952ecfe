import type { CheckedGenerateOptions } from '../options/call.js'
import type { Limits } from '../options/limits.js'
import { type ModelLimits, withSource } from '../options/sizes.js'
import { readSourceVideo, type SourceVideo } from '../video/read/source_video.js'
import { checkRecording } from '../video/write/recording.js'

/** A call that can start. */
export interface PreparedCall {
  readonly call: CheckedGenerateOptions
  /** The video to start from. */
  readonly source?: SourceVideo | undefined
}

/** Whether a call has a video to start from, or a file to write. */
export function needsFiles({ video, output }: CheckedGenerateOptions): boolean {
  return video !== undefined || output !== undefined
}

/** Reads the video to start from, whose size the call takes on, and throws what would keep its file from being written. */
export async function prepareFiles(
  call: CheckedGenerateOptions,
  model: ModelLimits,
  { pixels }: Limits,
): Promise<PreparedCall> {
  const { video, wishes, ffmpeg, signal } = call
  let prepared: PreparedCall = { call }
  if (video !== undefined) {
    const how = { multiple: model.sizeMultiple, maxPixels: pixels, ffmpeg, signal }
    const source = await readSourceVideo(video, wishes, how)
    prepared = { call: withSource(call, source, model, pixels), source }
  }
  const { fps, frames } = prepared.call
  await checkRecording(prepared.call, { fps, frameCount: frames })
  return prepared
}
