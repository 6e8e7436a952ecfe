import { Readable } from 'node:stream'
import { types } from 'node:util'
import type { Check } from '../../checks/checks.js'
import { invalidArgument } from '../../errors.js'
import { isUrl } from '../../files/paths.js'
import type { VideoFacts } from '../facts.js'
import { parseDestination } from './destination.js'
import { checkFile, type EncodePlan, encodeToFile } from './encode.js'
import type { FrameSource } from './frame_source.js'
import { checkOptions, type EncodeToFileOptions, saveOptions } from './options.js'

/** A file that is written while the video is decoded, with the options of {@link Video.save}. */
export interface Output extends Omit<EncodeToFileOptions, 'ffmpeg' | 'signal'> {
  /** A file, or files: see {@link Video.save}. */
  path: string | URL
}

const names = ['path', ...saveOptions.filter((name) => name !== 'ffmpeg' && name !== 'signal')]

/** Checks a path, or options with one. {@link checkRecording} checks the options that depend on the format. */
export const outputOf: Check<Output> = (name, value) => {
  const output = typeof value === 'string' || isUrl(value) ? { path: value } : value
  if (typeof output !== 'object' || output === null) throw invalidArgument(name, 'a path, or { path }', value)
  checkOptions(output, names)
  const { path, ...how } = output as Output
  parseDestination(path)
  return { path, ...how }
}

/** The options of a call that concern the file it writes. */
interface RecordedCall {
  readonly output?: Output | undefined
  /** The ffmpeg to use. */
  readonly ffmpeg?: string | URL | undefined
  readonly signal?: AbortSignal | undefined
}

/** Throws the errors of writing the file before there is a frame: see `checkSave`. Returns warnings. */
export async function checkRecording(
  { output, ffmpeg, signal }: RecordedCall,
  plan: EncodePlan,
): Promise<readonly string[]> {
  return output ? checkFile(output.path, plan, { ...output, ffmpeg, signal }) : []
}

/**
 * A file that is written while the frames of its video are decoded. It appears complete when the recording ends without an
 * error, or not at all. Frames that wait for the encoder are views of the video's memory.
 */
export class Recording {
  /** As `Video.save` returns it. */
  readonly path: string
  readonly #output: Output
  readonly #options: EncodeToFileOptions
  readonly #frames = new Readable({ objectMode: true, read() {} })
  readonly #source: Omit<FrameSource, 'facts'> & { facts: VideoFacts }
  #written: Promise<string> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(
    output: Output,
    { ffmpeg, signal }: RecordedCall,
    size: Pick<FrameSource, 'width' | 'height' | 'fps'>,
  ) {
    this.path = parseDestination(output.path).path
    this.#output = output
    this.#options = { ...output, ffmpeg, signal }
    this.#source = { ...size, frames: this.#frames, facts: {} }
    this.#frames.on('error', () => {}) // `discard` emits one, perhaps before there is a reader
  }

  /** Starts the encoder, which then waits for frames. `facts` are for the file's comment. Idempotent. */
  begin(facts: VideoFacts): void {
    if (this.#written) return
    this.#source.facts = facts
    this.#written = encodeToFile(this.#source, this.#output.path, this.#options)
    this.#written.catch((error: unknown) => {
      this.#failure = { error }
    })
  }

  /** Passes a frame to the encoder. It must not change afterwards. Throws the encoder's error if it has failed. */
  take(frame: Uint8Array): void {
    if (this.#failure) throw this.#failure.error
    this.#frames.push(frame)
  }

  /** Waits for the complete file. `facts` are for the JSON file beside it. */
  async end(facts: VideoFacts): Promise<void> {
    this.#source.facts = facts
    this.#frames.push(null)
    await this.#written
  }

  /** Stops the encoder. No file remains. */
  async discard(reason: unknown): Promise<void> {
    this.#frames.destroy(types.isNativeError(reason) ? reason : new Error('discarded', { cause: reason }))
    await this.#written?.catch(() => {})
  }
}
