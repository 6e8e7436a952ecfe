import { TorchreelError } from '../errors.js'
import type {
  Addon,
  Listener,
  NativeAdaptation,
  NativeEvent,
  NativeMemory,
  NativePipelineOptions,
  NativeRequest,
  NativeText,
  NativeThreads,
  PipelineHandle,
} from './interface.js'
import { asTorchreelError, guarded, loadNative } from './load.js'

/** A pipeline in the core, with a thread of its own for its jobs. */
export class NativePipeline {
  readonly #addon: Addon
  readonly #pipeline: PipelineHandle
  readonly #device: string
  /** What the files have that was not expected, and that was no reason to refuse them. */
  readonly warnings: string[] = []
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
        (job, tell) => pipeline.#addon.openPipeline(pipeline.#pipeline, job, options, tell),
        (event) => {
          if (event.type === 'warning') pipeline.warnings.push(event.message)
        },
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

  /** Queues a new set of changes by adapters, for the jobs after it. If it fails, nothing has changed. */
  adapt(networks: { textEncoder: NativeAdaptation; denoiser: NativeAdaptation }): Promise<void> {
    return this.#run(
      (job) => this.#addon.adapt(this.#pipeline, job, networks.textEncoder, networks.denoiser),
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
    // One call after the other: a slow listener is not called again before it is done.
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

  /** How many threads an operation on the CPU uses, from the next step of the running job on. */
  setThreads(threads: NativeThreads): void {
    this.#addon.setThreads(this.#pipeline, threads)
  }

  /** Where the weights are now; also while a job runs. */
  memory(): NativeMemory {
    return guarded(() => this.#addon.memory(this.#pipeline))
  }

  /** Cancels the running job, frees all memory and ends the thread. */
  close(): Promise<void> {
    this.#closed ??= this.#addon.closePipeline(this.#pipeline)
    return this.#closed
  }
}
