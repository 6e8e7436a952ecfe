import { createRequire } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import { show, TorchreelError, type TorchreelErrorCode, type TorchreelErrorDetails } from '../errors.js'
import { addonFile, coreFile, loadError, requireWhole } from '../machine/addon_files.js'
import { findLibtorch, type Libtorch, librariesOf } from '../machine/libtorch.js'
import { requirePlatform } from '../machine/machine.js'

/** The files of one network. */
export interface NetworkFiles {
  /** A TorchScript archive without weights. */
  graph: string
  /** Safetensors files. */
  weights: string[]
}

/** The UNet's step as machine code for one shape. */
export interface NativeCompiledDenoiser {
  /** A shared library. */
  library: Uint8Array
  /** JSON: the operators that it calls by name. */
  operators: string | undefined
  /** Of the sample: 1, C, F, h, w. */
  shape: number[]
  /** Prompts of a call: 2 with guidance, 1 without. */
  texts: number
  /** Tokens of a prompt. */
  tokens: number
}

export interface NativePipelineOptions {
  textEncoder: NetworkFiles
  unet: NetworkFiles
  vae: NetworkFiles
  /** In place of the UNet's graph. */
  compiledDenoiser: NativeCompiledDenoiser | undefined
  device: string
  dtype: string
  offload: string
  /** Latents are divided by it before they are decoded. */
  scalingFactor: number
  latentChannels: number
  /** 0: libtorch's choice. */
  threads: number
  /** Record a step of the UNet as a graph of the device and repeat it. */
  captureGraph: boolean
  /** Bytes of a safetensors file's header. */
  maxHeader: number
}

/** P prompts: tokens (P, L), or embeddings (P, L, size). */
export type NativeText = { tokens: Int32Array; clipSkip: number } | { embeddings: Float32Array; size: number }

/** One job: B videos of F frames. */
export interface NativeRequest {
  videos: number
  prompts: NativeText
  /** Undefined: no guidance. */
  negativePrompts: NativeText | undefined
  frames: number
  latentHeight: number
  latentWidth: number
  /** The code of a DenoisingProgram. */
  program: Float64Array
  /** One scale per CALL of the program. */
  guidance: Float64Array
  /** One for all videos, or one per video. */
  seeds: number[]
  /** (B, C, F, h, w) to start from in place of noise. */
  latents: Float32Array | undefined
  /** s1, s2, b1, b2; undefined: off. */
  freeU: Float64Array | undefined
  /** F frames of rgb24 whose latents are started from in place of noise. */
  video: { data: Uint8Array; height: number; width: number } | undefined
  /** Frames that the network sees at a time; 0: all. */
  window: number
  windowOverlap: number
  /** Every so many calls of the network compute all of its blocks, those between only the outermost; 1: all do. */
  featureCache: number
  /** Report the sample after every so many calls; 0: only at the end. */
  latentsEvery: number
  /** Frames decoded at a time. */
  decodeChunk: number
  /** The side of the VAE's tiles in latents; 0: frames in one piece. */
  tile: number
  tileOverlap: number
  /** NaN and infinity end no job. */
  allowNonFinite: boolean
}

/** Bytes of one network. */
export interface NativeNetworkMemory {
  mapped: number
  copied: number
  peakCopied: number
  pinned: number
  placed: boolean
}

export interface NativeMemory {
  textEncoder: NativeNetworkMemory
  unet: NativeNetworkMemory
  vae: NativeNetworkMemory
  /** By libtorch on the device; -1 on the CPU. */
  allocated: number
  reserved: number
  /** What V8 knows to be held outside of its heap, by all objects. */
  external: number
}

/** Everything that adapters change in a network; the tensors are in safetensors files. */
export interface NativeAdaptation {
  /** weight += scale · alpha / r · up · down; without alpha it is r. */
  updates: {
    weight: string
    file: string
    up: string
    down: string
    alpha: string | undefined
    scale: number
  }[]
  /** Rows for the end of a table. */
  rows: { weight: string; file: string; tensor: string }[]
}

export type Stage = 'encode' | 'denoise' | 'decode'

export type NativeEvent =
  | { type: 'progress'; stage: Stage; step: number; steps: number }
  | { type: 'latents'; step: number; steps: number; data: Float32Array; shape: number[] }
  | { type: 'warning'; message: string }
  | { type: 'embeddings'; data: Float32Array; shape: number[] }
  | { type: 'frames'; first: number; count: number; width: number; height: number; data: Buffer }

type Listener = (event: NativeEvent) => void | Promise<void>

declare const handle: unique symbol
type Handle<Name> = { readonly [handle]: Name }
type PipelineHandle = Handle<'pipeline'>
type GeneratorHandle = Handle<'generator'>
type NativeModel = (input: Float32Array, timestep: number, call: number) => Float32Array

/** The addon's functions. */
interface Addon {
  load(libraries: string[], core: string): string
  leaveAtExit(): void
  checkDevice(device: string): void
  createPipeline(): PipelineHandle
  openPipeline(pipeline: PipelineHandle, job: number, options: NativePipelineOptions): Promise<void>
  generate(
    pipeline: PipelineHandle,
    job: number,
    request: NativeRequest,
    listener: (event: NativeEvent) => void,
  ): Promise<void>
  encode(
    pipeline: PipelineHandle,
    job: number,
    prompts: number,
    text: NativeText,
    listener: (event: NativeEvent) => void,
  ): Promise<void>
  memory(pipeline: PipelineHandle): NativeMemory
  adapt(
    pipeline: PipelineHandle,
    job: number,
    textEncoder: NativeAdaptation,
    unet: NativeAdaptation,
  ): Promise<void>
  cancel(pipeline: PipelineHandle, job: number): void
  closePipeline(pipeline: PipelineHandle): Promise<void>
  createGenerator(seed: number): GeneratorHandle
  randn(generator: GeneratorHandle, shape: readonly number[]): Float32Array
  runProgram(
    code: Float64Array,
    sample: Float32Array,
    shape: readonly number[],
    model: NativeModel,
    generator: GeneratorHandle | undefined,
    calls: number,
  ): Float32Array
}

const require = createRequire(import.meta.url)
let loaded: { addon: Addon; libtorch: Libtorch } | undefined

/**
 * Loads the addon, libtorch and the core that was built for it; once per process.
 *
 * @throws TorchreelError `ERR_NATIVE_LOAD` with what was tried, `ERR_LIBTORCH_NOT_FOUND`
 */
export function loadNative(libtorchFolder?: string): { addon: Addon; libtorch: Libtorch } {
  if (loaded && libtorchFolder === undefined) return loaded
  requirePlatform()
  const file = addonFile()
  const libtorch = findLibtorch(libtorchFolder)
  const files = [file, ...librariesOf(libtorch)]
  let addon: Addon
  try {
    const core = coreFile(file, libtorch.version)
    files.push(core)
    librariesOf(libtorch).forEach(requireWhole)
    addon = require(file) as Addon
    addon.load(librariesOf(libtorch), core)
  } catch (error) {
    throw loadError(error as Error, libtorch, files)
  }
  // A worker's end is the environment's: it waits for the running step. The process's end need not wait.
  if (isMainThread && !loaded) process.on('exit', () => addon.leaveAtExit())
  loaded = { addon, libtorch }
  return loaded
}

/** What the native side rejects with, as a TorchreelError with the stack of who asked. */
function asTorchreelError(error: unknown, device = 'cpu'): TorchreelError {
  const { code, message, stage, step } = error as TorchreelErrorDetails & { code?: string; message?: string }
  const known = typeof code === 'string' && code.startsWith('ERR_')
  return new TorchreelError(known ? (code as TorchreelErrorCode) : 'ERR_INTERNAL', message ?? show(error), {
    ...(stage !== undefined && { stage, step }),
    ...(code === 'ERR_DEVICE_LOST' && { device }),
    // A job on a device needs the host's memory, too.
    ...(code === 'ERR_OUT_OF_MEMORY' && { device: message?.includes('CUDA') ? device : 'cpu' }),
    cause: error,
  })
}

function guarded<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw asTorchreelError(error)
  }
}

/** @throws TorchreelError `ERR_DEVICE_UNAVAILABLE`, or `ERR_INVALID_ARGUMENT` for what is no device's name */
export function checkDevice(device: string): void {
  guarded(() => loadNative().addon.checkDevice(device))
}

/** A pipeline in the core, with a thread of its own for its jobs. */
export class NativePipeline {
  readonly #addon: Addon
  readonly #pipeline: PipelineHandle
  readonly #device: string
  #jobs = 0
  #closed: Promise<void> | undefined

  private constructor(addon: Addon, device: string) {
    this.#addon = addon
    this.#device = device
    this.#pipeline = addon.createPipeline()
  }

  /** Loads graphs and weights on the pipeline's thread; an abort ends that after the network that is being loaded. */
  static async open(options: NativePipelineOptions, signal?: AbortSignal): Promise<NativePipeline> {
    const pipeline = new NativePipeline(loadNative().addon, options.device)
    try {
      await pipeline.#run(
        (job) => pipeline.#addon.openPipeline(pipeline.#pipeline, job, options),
        () => {},
        signal,
      )
    } catch (error) {
      await pipeline.close()
      throw error
    }
    return pipeline
  }

  /** Queues a generation. */
  generate(request: NativeRequest, listener: Listener, signal: AbortSignal | undefined): Promise<void> {
    return this.#run(
      (job, tell) => this.#addon.generate(this.#pipeline, job, request, tell),
      listener,
      signal,
    )
  }

  /** Queues the embedding of prompts; the listener takes it as (P, L, D). */
  encode(
    prompts: number,
    text: NativeText,
    listener: Listener,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    return this.#run(
      (job, tell) => this.#addon.encode(this.#pipeline, job, prompts, text, tell),
      listener,
      signal,
    )
  }

  /** Queues a change of what adapters change, for the jobs after it. If it fails, nothing has changed. */
  adapt(networks: { text_encoder: NativeAdaptation; unet: NativeAdaptation }): Promise<void> {
    return this.#run(
      (job) => this.#addon.adapt(this.#pipeline, job, networks.text_encoder, networks.unet),
      () => {},
      undefined,
    )
  }

  /**
   * Queues a job. Rejects with `signal.reason` within a step of an abort, with what `listener` throws, and with
   * `ERR_DISPOSED` when the pipeline is closed meanwhile.
   */
  async #run(
    start: (job: number, tell: (event: NativeEvent) => void) => Promise<void>,
    listener: Listener,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted()
    const job = this.#jobs++
    const cancel = () => this.#addon.cancel(this.#pipeline, job)
    let thrown: { error: unknown } | undefined
    const stop = (error: unknown) => {
      thrown ??= { error }
      cancel()
    }
    // One after the other: a listener that takes its time is not called again before it is done.
    let told = Promise.resolve()
    const tell = (event: NativeEvent) => {
      told = told.then(() => (thrown || signal?.aborted ? undefined : listener(event))).catch(stop)
    }
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      await start(job, tell)
      await told
    } catch (error) {
      if (thrown) throw thrown.error
      if ((error as { code?: string }).code !== 'ABORTED') throw asTorchreelError(error, this.#device)
      signal?.throwIfAborted()
      throw new TorchreelError(
        'ERR_DISPOSED',
        'the pipeline was disposed while the job was waiting or running',
      )
    } finally {
      signal?.removeEventListener('abort', cancel)
    }
    if (thrown) throw thrown.error
    signal?.throwIfAborted()
  }

  /** What lies where now; also while a job runs. */
  memory(): NativeMemory {
    return guarded(() => this.#addon.memory(this.#pipeline))
  }

  /** Cancels what runs, gives the memory back and ends the thread. */
  close(): Promise<void> {
    this.#closed ??= this.#addon.closePipeline(this.#pipeline)
    return this.#closed
  }
}

/** The core's generator behind {@link Generator}. */
export class NativeGenerator {
  readonly #addon: Addon
  readonly #generator: GeneratorHandle

  constructor(seed: number) {
    this.#addon = loadNative().addon
    this.#generator = guarded(() => this.#addon.createGenerator(seed))
  }

  randn(shape: readonly number[]): Float32Array {
    return guarded(() => this.#addon.randn(this.#generator, shape))
  }

  /** The core's interpreter of denoising programs; the samples after each of `calls` calls, one after the other. */
  static runProgram(
    code: Float64Array,
    sample: Float32Array,
    shape: readonly number[],
    model: NativeModel,
    generator: NativeGenerator | undefined,
    calls: number,
  ): Float32Array {
    return loadNative().addon.runProgram(
      code,
      sample,
      shape,
      model,
      generator === undefined ? undefined : generator.#generator,
      calls,
    )
  }
}
