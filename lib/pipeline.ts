import path from 'node:path'
import { ReadableStream } from 'node:stream/web'
import { Adapters, type Lora } from './adapters/adapters.js'
import {
  checkLora,
  checkScales,
  checkTextualInversion,
  type LoraOptions,
  type TextualInversionOptions,
} from './adapters/options.js'
import type { TextualInversion } from './adapters/textual_inversion.js'
import { resolveDevice } from './addon/device.js'
import { chooseSeed } from './addon/generator.js'
import { loadNative } from './addon/load.js'
import { type PipelineMemory, pipelineMemory } from './addon/memory.js'
import { NativePipeline } from './addon/native_pipeline.js'
import { guidancePerCall } from './call/guidance.js'
import { type DecodedFrame, Job, ProgressClock } from './call/job.js'
import { needsFiles, type PreparedCall, prepareFiles } from './call/preparation.js'
import { Queue } from './call/queue.js'
import { requestOf } from './call/request.js'
import { settingsOf } from './call/settings.js'
import { type Checkpoint, readCheckpoint, schedulerOf } from './checkpoint/checkpoint.js'
import {
  type CompiledDenoiser,
  nativeCompiledDenoiser,
  readCompiledDenoiser,
  requireCompiledCall,
  requireCompiledFor,
  requireCompiledSize,
} from './checkpoint/compiled_denoiser.js'
import { abortSignal, integer, type Numbers, reader } from './checks/checks.js'
import { TorchreelError } from './errors.js'
import { verifyFiles } from './files/hashes.js'
import { defaultModel } from './hub/default_model.js'
import { resolveModel } from './hub/hub.js'
import {
  type CheckedGenerateOptions,
  checkGenerateOptions,
  checkPipelineOptions,
  type GenerateOptions,
  type PipelineOptions,
} from './options/call.js'
import { promptTexts } from './options/call_values.js'
import type { Limits } from './options/limits.js'
import { version } from './package.js'
import { type Scheduler, schedulerFrom } from './schedulers/index.js'
import { type DenoisingProgram, decodeProgram } from './schedulers/program.js'
import { Tokenizer } from './text/clip_tokenizer.js'
import type { Video } from './video/video.js'

/** How prompts are embedded. */
export interface EncodePromptOptions {
  /** Take the text encoder's output this many layers before the last. @defaultValue 0 */
  clipSkip?: number | undefined
  signal?: AbortSignal | undefined
}

/** Embeddings of prompts, (P, L, D). */
export interface PromptEmbeddings extends Numbers {
  /** What the caller should know: prompts that were cut short. */
  readonly warnings: readonly string[]
}

/**
 * Text to video with one checkpoint. The way of the data is `generate`'s: prompt → tokens, steps → denoising program,
 * both → the core's text encoder, UNet and VAE on a thread of the pipeline's own, frames → {@link Video}.
 */
export class TextToVideoPipeline implements AsyncDisposable {
  /** Makes the denoising programs. Settable; what `generate` uses when it is not told otherwise. */
  scheduler: Scheduler
  /** The model as it was asked for: owner/name, or the name of its folder. */
  readonly model: string
  /** The folder of the checkpoint. */
  readonly folder: string
  /** Where the networks compute: 'cpu', 'cuda:0' … */
  readonly device: string
  /** What they compute in. */
  readonly dtype: 'float16' | 'bfloat16' | 'float32'
  /** The libtorch that is loaded, such as '2.13.0+cpu'. */
  readonly libtorch: string
  /** What was chosen for the caller while loading. */
  readonly warnings: readonly string[]
  readonly #checkpoint: Checkpoint
  readonly #tokenizer: Tokenizer
  readonly #native: NativePipeline
  readonly #adapters: Adapters
  readonly #limits: Limits
  readonly #queue: Queue
  readonly #compiledDenoiser: Pick<CompiledDenoiser, 'file' | 'made'> | undefined
  /** Ends what runs beside the native jobs: ffmpeg. */
  readonly #disposal = new AbortController()
  #disposed: Promise<void> | undefined

  private constructor(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    native: NativePipeline,
    scheduler: Scheduler,
    limits: Limits,
    compiledDenoiser: CompiledDenoiser | undefined,
    made: Pick<TextToVideoPipeline, 'model' | 'device' | 'dtype' | 'libtorch' | 'warnings'>,
  ) {
    this.#checkpoint = checkpoint
    this.#tokenizer = tokenizer
    this.#native = native
    this.#limits = limits
    this.#queue = new Queue(limits.queue)
    this.#adapters = new Adapters(checkpoint, tokenizer, native, this.#queue, limits.headerBytes)
    this.#compiledDenoiser = compiledDenoiser && { file: compiledDenoiser.file, made: compiledDenoiser.made }
    this.model = made.model
    this.folder = checkpoint.folder
    this.device = made.device
    this.dtype = made.dtype
    this.libtorch = made.libtorch
    this.warnings = made.warnings
    this.scheduler = scheduler
  }

  /**
   * Loads a checkpoint in the published layout: a folder with model_index.json, unet/, vae/, text_encoder/, tokenizer/ and
   * scheduler/, or `owner/name` on Hugging Face, from its cache or downloaded into it. On the CPU in the files' own dtype
   * the weights are mapped, not copied.
   *
   * @param name undefined for text-to-video-ms-1.7b if the cache holds it, else `shapes`, which is in this package:
   * `warnings` says which
   * @throws TorchreelError for options, a missing, broken, untrusted or incompatible checkpoint, a download that fails, a
   * missing device, and whatever keeps libtorch from loading
   */
  static async fromPretrained(name?: string, options: PipelineOptions = {}): Promise<TextToVideoPipeline> {
    const checked = checkPipelineOptions(options)
    const { revision, variant, cacheDir, token, localFilesOnly, signal } = checked
    const compiledDenoiser =
      checked.compiledDenoiser === undefined
        ? undefined
        : await readCompiledDenoiser(checked.compiledDenoiser)
    const { model, notice } = name === undefined ? await defaultModel(checked) : { model: name }
    const clock = new ProgressClock(checked.onProgress)
    const stop = new AbortController() // when onProgress throws: its error is the reason
    const notices = notice === undefined ? [] : [notice]
    const folder = await resolveModel(model, {
      revision,
      variant,
      cacheDir,
      token,
      localFilesOnly,
      signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal,
      onDownload: ({ license }) => {
        notices.push(
          `the weights of ${model} are licensed ${license ?? 'as its model card says: it names no licence'}`,
        )
      },
      onProgress: ({ bytes, totalBytes }) => {
        clock.tell('download', bytes, totalBytes).catch((error) => stop.abort(error))
      },
    })
    const checkpoint = await readCheckpoint(folder, checked)
    const scheduler = schedulerOf(checkpoint)
    const tokenizer = await Tokenizer.load(
      checkpoint.tokenizerFolder,
      checkpoint.positions,
      checkpoint.vocabularySize,
    )
    const { libtorch } = loadNative(checked.libtorch)
    const device = resolveDevice(checked.device)
    const dtype = checked.dtype ?? (device === 'cpu' ? 'float32' : 'float16')
    const { limits } = checked
    if (compiledDenoiser)
      requireCompiledFor(compiledDenoiser, {
        graph: checkpoint.denoiserGraph,
        vaeScale: checkpoint.vaeScale,
        libtorch: libtorch.version,
        device,
        dtype,
      })
    if (checked.verify) {
      const { text_encoder, unet, vae } = checkpoint.files
      const weights = [text_encoder, unet, vae].flatMap((network) => network.weights)
      await verifyFiles(checkpoint.folder, weights, signal)
    }
    const native = await NativePipeline.open(
      {
        family: 'modelscope',
        networks: {
          textEncoder: checkpoint.files.text_encoder,
          denoiser: checkpoint.files.unet,
          vae: checkpoint.files.vae,
        },
        compiledDenoiser:
          compiledDenoiser && nativeCompiledDenoiser(compiledDenoiser, checkpoint.latentChannels),
        device,
        dtype,
        offload: checked.offload,
        latentScale: Array<number>(checkpoint.latentChannels).fill(checkpoint.scalingFactor),
        latentMean: Array<number>(checkpoint.latentChannels).fill(0),
        threads: checked.threads,
        captureGraph: checked.captureGraph,
        maxHeader: limits.headerBytes,
      },
      signal,
    )
    return new TextToVideoPipeline(checkpoint, tokenizer, native, scheduler, limits, compiledDenoiser, {
      model: path.resolve(model) === folder ? path.basename(folder) : model,
      device,
      dtype,
      libtorch: libtorch.version,
      warnings: [...notices, ...checkpoint.warnings],
    })
  }

  /**
   * Makes a video of a prompt, or one of each prompt. Calls wait for each other, in the order in which they were made;
   * the event loop stays free. The same seed and options give the same video.
   *
   * @param prompt undefined where `promptEmbeds` are given
   * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`, `ERR_NUMERIC`, `ERR_OUT_OF_MEMORY`,
   * `ERR_DISPOSED`; `signal.reason` when aborted; what `onProgress` and `onPreview` throw
   */
  async generate(prompt: string, options?: GenerateOptions): Promise<Video>
  async generate(prompts: readonly string[] | undefined, options?: GenerateOptions): Promise<Video[]>
  async generate(
    prompt: string | readonly string[] | undefined,
    options: GenerateOptions = {},
  ): Promise<Video | Video[]> {
    this.#assertUsable()
    const videos = await this.#generate(checkGenerateOptions(prompt, options, this.#checkpoint, this.#limits))
    return typeof prompt === 'string' ? (videos[0] as Video) : videos
  }

  /**
   * The frames of a generation as the VAE decodes them, first those of the first prompt: `for await (const frame of …)`.
   * Leaving the loop aborts the job.
   */
  generateFrames(
    prompt: string | readonly string[] | undefined,
    options: GenerateOptions = {},
  ): ReadableStream<DecodedFrame> {
    this.#assertUsable()
    const checked = checkGenerateOptions(prompt, options, this.#checkpoint, this.#limits)
    const left = new AbortController()
    const signal = checked.signal ? AbortSignal.any([checked.signal, left.signal]) : left.signal
    return new ReadableStream<DecodedFrame>({
      start: (controller) => {
        this.#generate({ ...checked, signal }, (frame) => controller.enqueue(frame)).then(
          () => controller.close(),
          (error) => controller.error(error),
        )
      },
      cancel: (reason) => left.abort(reason),
    })
  }

  /**
   * The text encoder's embeddings of prompts, (P, L, D): for `promptEmbeds` and `negativePromptEmbeds`, as they are or
   * mixed.
   */
  async encodePrompt(
    prompt: string | readonly string[],
    options: EncodePromptOptions = {},
  ): Promise<PromptEmbeddings> {
    this.#assertUsable()
    const prompts = promptTexts(prompt, this.#limits)
    const read = reader(options, ['clipSkip', 'signal'])
    const clipSkip = read('clipSkip', 0, integer(0, this.#checkpoint.textLayers - 1))
    const signal = read('signal', undefined, abortSignal)
    const warnings: string[] = []
    let embeddings: Numbers | undefined
    const start = async () => {
      this.#assertUsable()
      const text = { tokens: this.#tokenizer.encodeAll(prompts, 'prompt', warnings), clipSkip }
      await this.#native.encode(
        prompts.length,
        text,
        (event) => {
          if (event.type === 'embeddings') embeddings = { data: event.data, shape: event.shape }
        },
        signal,
      )
    }
    await this.#queue.run(undefined, start, signal)
    return { ...(embeddings as Numbers), warnings }
  }

  /** What of this pipeline lies where now: mapped files, copied weights, the device. May be asked while a job runs. */
  memory(): PipelineMemory {
    this.#assertUsable()
    return pipelineMemory(this.device, this.dtype, this.#native.memory())
  }

  /** The LoRAs that are loaded, with their scales. */
  get adapters(): readonly Lora[] {
    return this.#adapters.loras
  }

  /** The textual inversions that are loaded. */
  get textualInversions(): readonly TextualInversion[] {
    return this.#adapters.textualInversions
  }

  /**
   * Loads a LoRA for the UNet, the text encoder or both, and adds it to the weights for the calls that come after. It
   * works beside those that are loaded already.
   *
   * @param file safetensors in the layout of PEFT and diffusers (`unet.….lora_A.weight`) or Kohya (`lora_unet_…`)
   * @returns its name
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` for a pickle,
   * `ERR_MODEL_INCOMPATIBLE` naming up to ten tensors that do not fit the model; then nothing has changed
   */
  async loadLora(file: string, options: LoraOptions = {}): Promise<string> {
    this.#assertUsable()
    return this.#adapters.loadLora(checkLora(file, options))
  }

  /** Sets how strongly the LoRAs work, 1 where no scale is given; those that are not named do not work. */
  async setAdapters(adapters: readonly { name: string; scale?: number | undefined }[]): Promise<void> {
    this.#assertUsable()
    return this.#adapters.setScales(checkScales(adapters))
  }

  /** Takes a LoRA out again, or all: to the bit, the weights are the checkpoint's. */
  async unloadLora(name?: string): Promise<void> {
    this.#assertUsable()
    return this.#adapters.unloadLora(name)
  }

  /**
   * Loads a textual inversion: a word that prompts may use from then on, in any case of letters. One of several vectors
   * takes as many of a prompt's tokens.
   *
   * @param file safetensors with A1111's `emb_params`, `clip_l`, or one tensor that is named by its word
   * @returns the word
   * @throws TorchreelError as {@link loadLora}, and `ERR_INVALID_ARGUMENT` for a word that the tokenizer knows
   */
  async loadTextualInversion(file: string, options: TextualInversionOptions = {}): Promise<string> {
    this.#assertUsable()
    return this.#adapters.loadTextualInversion(checkTextualInversion(file, options))
  }

  /** Takes the word of a textual inversion out again, or all. */
  async unloadTextualInversion(token?: string): Promise<void> {
    this.#assertUsable()
    return this.#adapters.unloadTextualInversion(token)
  }

  /** Ends the job that runs and those that wait with `ERR_DISPOSED`, and gives all memory back. Idempotent. */
  dispose(): Promise<void> {
    this.#disposal.abort(new TorchreelError('ERR_DISPOSED', 'the pipeline was disposed of meanwhile'))
    this.#disposed ??= this.#native.close()
    return this.#disposed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #assertUsable(): void {
    if (this.#disposed) throw new TorchreelError('ERR_DISPOSED', 'the pipeline is disposed')
  }

  async #generate(call: CheckedGenerateOptions, onFrame?: (frame: DecodedFrame) => void): Promise<Video[]> {
    const { steps, strength, timesteps, sigmas, eta, signal } = call
    const scheduler = this.#schedulerFor(call.scheduler)
    const program = scheduler.program(steps, { eta, strength, timesteps, sigmas })
    decodeProgram(program) // refuses one that the core would refuse
    const compiled = this.#compiledDenoiser
    if (compiled) {
      const guidance = guidancePerCall(call, program.timesteps.length)
      requireCompiledCall(compiled, call, guidance, this.#checkpoint.positions)
      requireCompiledSize(compiled, call.video === undefined ? call : { ...call.wishes, window: call.window })
    }
    const prepare = () => {
      const ends = AbortSignal.any([this.#disposal.signal, ...(signal ? [signal] : [])])
      return prepareFiles({ ...call, signal: ends }, this.#checkpoint, this.#limits)
    }
    return this.#queue.run(
      needsFiles(call) ? prepare : undefined,
      (prepared = { call }) => this.#run(prepared, scheduler, program, onFrame),
      signal,
    )
  }

  async #run(
    { call, source }: PreparedCall,
    scheduler: Scheduler,
    program: DenoisingProgram,
    onFrame: ((frame: DecodedFrame) => void) | undefined,
  ): Promise<Video[]> {
    this.#assertUsable()
    const { videos, steps, strength, guidanceScale, signal } = call
    const seeds = call.seeds ?? [chooseSeed()]
    const warnings = [...this.warnings, ...(source?.warnings ?? [])]
    const request = requestOf(call, source, program, seeds, {
      ...{ tokenizer: this.#tokenizer, vaeScale: this.#checkpoint.vaeScale, warnings },
    })
    const compiled = this.#compiledDenoiser
    if (compiled && source) requireCompiledSize(compiled, call)

    const { model, libtorch, device, dtype } = this
    const settings = settingsOf(call, scheduler, this.#adapters)
    const compiledDenoiser = compiled && path.basename(compiled.file)
    const made = { torchreel: version, model, libtorch, device, dtype, compiledDenoiser, warnings }
    const factsOf = (index: number) => ({
      ...made,
      steps,
      strength,
      guidanceScale,
      scheduler: scheduler.name,
      seed: seeds[index] ?? seeds[0],
      settings: videos > seeds.length ? { ...settings, batch: { videos, index } } : settings,
    })
    const job = new Job(call, factsOf, onFrame)
    try {
      await this.#native.generate(request, (event) => job.take(event), signal)
      return await job.finish()
    } catch (error) {
      await job.discard(error)
      throw error
    }
  }

  #schedulerFor(choice: Scheduler | string | undefined): Scheduler {
    if (choice === undefined) return this.scheduler
    if (typeof choice !== 'string') return choice
    const config = this.#checkpoint.schedulerConfig
    return schedulerFrom(choice === 'checkpoint' ? String(config._class_name) : choice, config)
  }
}
