import type { ModelProperties } from '../families/family.js'
import type { Limits } from '../options/limits.js'
import { readSourceVideo, type SourceVideo } from '../video/read/source_video.js'
import { checkOutputFile, type Output } from '../video/write/recording.js'
import { type FittedCall, type SizedCall, sizeCall } from './fit_call.js'

/** A call that can start. */
export interface PreparedCall {
  readonly call: SizedCall
  /** The video to start from. */
  readonly source?: SourceVideo | undefined
  /** What was chosen for the file to write. */
  readonly warnings?: readonly string[] | undefined
}

/** What a call is prepared for, and with. */
interface Preparation {
  readonly properties: ModelProperties
  readonly limits: Limits
  /** The file to write, unless it was checked already. */
  readonly output: Output | undefined
}

/**
 * Reads the video that a call starts from, whose sizes it takes on, and refuses a file that could not be written.
 *
 * @param sized the call with its sizes, where they do not depend on a video
 */
export async function prepareFiles(
  fitted: FittedCall,
  sized: SizedCall | undefined,
  { properties, limits, output }: Preparation,
): Promise<PreparedCall> {
  const { video, ffmpeg, signal } = fitted
  const { sizeMultiple: multiple, frameMultiple } = properties
  const how = { multiple, frameMultiple, maxPixels: limits.pixels, ffmpeg, signal }
  const source = video === undefined ? undefined : await readSourceVideo(video, fitted, how)
  const call = sized ?? sizeCall(fitted, properties, limits, source)
  const plan = { fps: call.fps, frameCount: call.frames }
  const warnings = output && (await checkOutputFile(output, plan, { ffmpeg, signal }))
  return { call, source, warnings }
}
