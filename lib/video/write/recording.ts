import { Readable } from 'node:stream'
import { types } from 'node:util'
import { checkValue, type Kind } from '../../checks/kinds.js'
import { checkOptions, schemaOf, type TableOf } from '../../checks/options.js'
import { isUrl } from '../../files/paths.js'
import type { VideoFacts } from '../facts.js'
import { parseDestination } from './destination.js'
import { checkFile, checkPlan, type EncodePlan, encodeToFile } from './encode.js'
import type { FrameSource } from './frame_source.js'
import { type EncodeToFileOptions, saveOptions } from './options.js'

/** A file that is written while the video is decoded, with the options of {@link Video.save}. */
export interface Output extends Omit<EncodeToFileOptions, 'ffmpeg' | 'signal'> {
  /** A file, or files: see {@link Video.save}. */
  path: string | URL
}

const { ffmpeg: _, signal: __, ...howToSave } = saveOptions

/** The options of a file that is written while frames are decoded. */
export const outputOptions = {
  path: {
    kind: {
      expected: 'a path',
      schema: { type: 'string', minLength: 1 },
      read(value): string | URL {
        parseDestination(value as string) // refuses a name that says no format
        return value as string
      },
    },
    group: 'The file',
    says: 'the file name, whose ending says the format',
  },
  ...howToSave,
} as const satisfies TableOf<Output>

/** A path, or options with one. What depends on the format is checked by {@link checkOutputPlan}. */
export const output: Kind<Output> = {
  expected: 'a path, or { path }',
  get schema() {
    return { anyOf: [outputOptions.path.kind.schema, schemaOf(outputOptions, ['path'])] }
  },
  read(value, name) {
    const given = typeof value === 'string' || isUrl(value) ? { path: value } : value
    if (typeof given !== 'object' || given === null) return undefined
    const { path, ...how } = checkOptions(given, outputOptions, `${name}.`)
    return { ...how, path: checkValue(outputOptions.path.kind, 'path', path) }
  },
}

/** What a file is written with besides its own options. */
interface RecordingOptions {
  /** The ffmpeg to use. */
  readonly ffmpeg?: string | URL | undefined
  readonly signal?: AbortSignal | undefined
}

/** Throws the errors of writing the file before there is a frame: see `checkSave`. Returns warnings. */
export async function checkOutputFile(
  output: Output,
  plan: EncodePlan,
  { ffmpeg, signal }: RecordingOptions,
): Promise<readonly string[]> {
  return checkFile(output.path, plan, { ...output, ffmpeg, signal })
}

/** Throws the errors of {@link checkOutputFile} that depend on frames and options alone. Reads no file. */
export function checkOutputPlan(output: Output, plan: EncodePlan): void {
  checkPlan(plan, parseDestination(output.path), output)
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
    { ffmpeg, signal }: RecordingOptions,
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
