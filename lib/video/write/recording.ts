import { Readable } from 'node:stream'
import type { Check } from '../../checks/checks.js'
import { invalidArgument } from '../../errors.js'
import type { VideoFacts } from '../facts.js'
import { parseDestination } from './destination.js'
import { checkFile, type EncodePlan, encodeToFile } from './encode.js'
import type { FrameSource } from './frame_source.js'
import { checkOptions, type EncodeToFileOptions, saveOptions } from './options.js'

/** Where a video is written as it is decoded, and how: as {@link Video.save} takes it. */
export interface Output extends Omit<EncodeToFileOptions, 'ffmpeg' | 'signal'> {
  /** A file, or files: see {@link Video.save}. */
  path: string | URL
}

const names = ['path', ...saveOptions.filter((name) => name !== 'ffmpeg' && name !== 'signal')]

/** A name, or options with one. What hangs together with the format is checked by {@link checkRecording}. */
export const outputOf: Check<Output> = (name, value) => {
  const output = typeof value === 'string' || value instanceof URL ? { path: value } : value
  if (typeof output !== 'object' || output === null) throw invalidArgument(name, 'a path, or { path }', value)
  checkOptions(output, names)
  const { path, ...how } = output as Output
  parseDestination(path)
  return { path, ...how }
}

/** What of a call concerns the file that it writes. */
interface RecordedCall {
  readonly output?: Output | undefined
  /** The ffmpeg to use. */
  readonly ffmpeg?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/** Throws what writing the file would throw, before there is a frame: see `checkSave`. Gives warnings. */
export async function checkRecording(
  { output, ffmpeg, signal }: RecordedCall,
  plan: EncodePlan,
): Promise<readonly string[]> {
  return output ? checkFile(output.path, plan, { ...output, ffmpeg, signal }) : []
}

/**
 * A file that is written while the frames of its video are decoded. It appears whole, when the recording has ended well,
 * or not at all. Frames that wait for the encoder are views of the video's own memory.
 */
export class Recording {
  /** As `Video.save` gives it. */
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
    this.#frames.on('error', () => {}) // `discard` makes one, perhaps before anyone reads
  }

  /** Starts the encoder, which then waits for frames. `facts`: what the file's comment says. Idempotent. */
  begin(facts: VideoFacts): void {
    if (this.#written) return
    this.#source.facts = facts
    this.#written = encodeToFile(this.#source, this.#output.path, this.#options)
    this.#written.catch((error: unknown) => {
      this.#failure = { error }
    })
  }

  /** Hands on a frame, which must stay as it is. Throws what the encoder has failed with. */
  take(frame: Uint8Array): void {
    if (this.#failure) throw this.#failure.error
    this.#frames.push(frame)
  }

  /** Waits for the whole file. `facts`: what the JSON beside it says. */
  async end(facts: VideoFacts): Promise<void> {
    this.#source.facts = facts
    this.#frames.push(null)
    await this.#written
  }

  /** Ends the encoder; nothing stays. */
  async discard(reason: unknown): Promise<void> {
    this.#frames.destroy(reason instanceof Error ? reason : new Error('discarded', { cause: reason }))
    await this.#written?.catch(() => {})
  }
}
