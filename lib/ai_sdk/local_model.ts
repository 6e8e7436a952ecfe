import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { unlessAborted } from '../abort.js'
import { checkOptions } from '../checks/options.js'
import { invalidArgument } from '../errors.js'
import type { ModelProperties } from '../families/family.js'
import { callOptions } from '../options/call.js'
import { type OneCallOptions, splitOneCall } from '../options/one_call.js'
import { checkPipelineOptions } from '../options/pipeline.js'
import { TextToVideoPipeline } from '../pipeline.js'
import type { Video } from '../video/video.js'
import { type CallSettings, type ReadCall, readCall, settingsOf } from './read_call.js'
import {
  type JsonValue,
  maxVideosPerCall,
  type VideoCallOptions,
  type VideoModel,
  type VideoResult,
  type VideoStart,
  type VideoStatus,
  type VideoStatusOptions,
  type VideoWarning,
} from './specification.js'

/** The options of a model in this process: `generate`'s, as defaults of every call. */
export interface LocalModelOptions
  extends Omit<
    OneCallOptions,
    'model' | 'output' | 'signal' | 'seed' | 'video' | 'latents' | 'promptEmbeds' | 'negativePromptEmbeds'
  > {}

/** Operations whose result `doStatus` may still ask for; the oldest are forgotten. */
const keptOperations = 16

/** A model that runs in this process. Its pipeline is loaded by the first call and serves all calls. */
export class LocalModel implements VideoModel, AsyncDisposable {
  // No #private names: ai 7 calls the methods on a Proxy of the model.
  readonly specificationVersion = 'v3'
  readonly provider = 'torchreel'
  readonly modelId: string
  readonly maxVideosPerCall = maxVideosPerCall
  private readonly options: ReturnType<typeof splitOneCall>
  private readonly operations = new Map<string, Operation>()
  private pipeline: Promise<TextToVideoPipeline> | undefined

  /** @throws TorchreelError `ERR_INVALID_ARGUMENT` */
  constructor(modelId: string, options: LocalModelOptions) {
    this.modelId = modelId
    this.options = splitOneCall({ ...options, model: modelId })
    checkPipelineOptions(this.options.loading)
    checkOptions(this.options.making, callOptions)
  }

  async doGenerate(options: VideoCallOptions): Promise<VideoResult> {
    const call = readCall(options)
    const result = await this.make(call, options.abortSignal)
    return { ...result, warnings: [...call.warnings, ...result.warnings] }
  }

  async doStart(options: VideoCallOptions & { webhookUrl?: string }): Promise<VideoStart> {
    const call = readCall(options)
    options.abortSignal?.throwIfAborted()
    const operation = { id: randomUUID() }
    this.remember(operation.id, this.make(call, options.abortSignal))
    const { warnings } = call
    return { operation, warnings, providerMetadata: { torchreel: operation }, response: this.response() }
  }

  async doStatus({ operation }: VideoStatusOptions): Promise<VideoStatus> {
    const { id } = (operation ?? {}) as { id?: unknown }
    const found = typeof id === 'string' ? this.operations.get(id) : undefined
    if (!found) throw invalidArgument('operation', 'one that this model has started', operation)
    if (found.result) return { status: 'completed', ...found.result }
    const response = this.response()
    return found.error === undefined
      ? { status: 'pending', response }
      : { status: 'error', error: found.error, response }
  }

  /** Ends running and waiting calls, and frees the memory. The next call loads the model again. */
  async dispose(): Promise<void> {
    const pipeline = this.pipeline
    this.pipeline = undefined
    await (await pipeline?.catch(() => undefined))?.dispose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  private async make(call: ReadCall, signal: AbortSignal | undefined): Promise<VideoResult> {
    const pipeline = await unlessAborted(this.load(), signal)
    const [sized, warnings] = fitDuration(call, pipeline.properties)
    const source = call.source && (await SourceFile.write(call.source))
    const made: { video: Video; data: Buffer }[] = []
    try {
      for (let index = 0; index < call.count; index++) {
        const video = await pipeline.generate(call.prompt, {
          ...this.options.making,
          ...sized,
          ...settingsOf(call, index),
          video: source?.path,
          signal,
        })
        made.push({ video, data: await video.toBuffer('mp4', { signal }) })
      }
    } finally {
      await source?.remove()
    }
    const said = new Set([...pipeline.warnings, ...made.flatMap(({ video }) => video.warnings)])
    return {
      videos: made.map(({ data }) => ({ type: 'binary', data, mediaType: 'video/mp4' })),
      warnings: [...warnings, ...Array.from(said, (message) => ({ type: 'other', message }) as const)],
      providerMetadata: { torchreel: { videos: made.map(({ video }) => facts(video)) } },
      response: this.response(),
    }
  }

  /** Loads the pipeline once. After a failure, the next call tries again. */
  private load(): Promise<TextToVideoPipeline> {
    if (this.pipeline) return this.pipeline
    const loading = this.loadPipeline()
    this.pipeline = loading
    loading.catch(() => {
      if (this.pipeline === loading) this.pipeline = undefined
    })
    return loading
  }

  private async loadPipeline(): Promise<TextToVideoPipeline> {
    const { own, loading } = this.options
    const pipeline = await TextToVideoPipeline.fromPretrained(own.model, loading)
    try {
      for (const { file, ...how } of own.loras ?? []) await pipeline.loadLora(file, how)
      for (const { file, ...how } of own.textualInversions ?? [])
        await pipeline.loadTextualInversion(file, how)
    } catch (error) {
      await pipeline.dispose()
      throw error
    }
    return pipeline
  }

  private remember(id: string, result: Promise<VideoResult>): void {
    const operation: Operation = {}
    this.operations.set(id, operation)
    const forgetOldest = () => {
      const ended = Array.from(this.operations).filter(
        ([, { result, error }]) => result || error !== undefined,
      )
      for (const [oldest] of ended.slice(0, -keptOperations)) this.operations.delete(oldest)
    }
    result.then(
      (made) => {
        operation.result = made
        forgetOldest()
      },
      (error) => {
        operation.error = error instanceof Error ? error.message : String(error)
        forgetOldest()
      },
    )
  }

  private response() {
    return { timestamp: new Date(), modelId: this.modelId, headers: undefined }
  }
}

/** The video that a call starts from, as a file for ffmpeg. */
class SourceFile {
  readonly path: string
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
    this.path = path.join(folder, 'source')
  }

  static async write(bytes: Uint8Array): Promise<SourceFile> {
    const file = new SourceFile(await mkdtemp(path.join(tmpdir(), 'torchreel-source-')))
    try {
      await writeFile(file.path, bytes)
    } catch (error) {
      await file.remove()
      throw error
    }
    return file
  }

  remove(): Promise<void> {
    return rm(this.#folder, { recursive: true, force: true })
  }
}

/** A video that was started: running until it has one of both. */
interface Operation {
  result?: VideoResult
  error?: string
}

/** The frames of a duration: those that the model can make and that come closest to it. */
function fitDuration(
  { duration, settings }: ReadCall,
  { defaults, frameMultiple }: ModelProperties,
): [CallSettings, VideoWarning[]] {
  if (duration === undefined) return [{}, []]
  const fps = settings.fps ?? defaults.fps
  const groups = Math.max(0, Math.round((duration * fps - 1) / frameMultiple))
  const frames = groups * frameMultiple + 1
  if (Math.abs(frames - duration * fps) < 1e-6) return [{ frames }, []]
  const message = `duration: ${duration} seconds became ${frames} frames at ${fps} frames per second`
  return [{ frames }, [{ type: 'other', message }]]
}

function facts(video: Video): JsonValue {
  return JSON.parse(JSON.stringify(video)) as JsonValue
}
