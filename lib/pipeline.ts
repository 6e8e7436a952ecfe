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
import { type PipelineMemory, pipelineMemory } from './addon/memory.js'
import type { NativeEvent } from './addon/native_pipeline.js'
import { type Call, checkCall, checkPrompts, checkTogether } from './call/check_call.js'
import { requireCompiledCall, requireCompiledSize } from './call/compiled_checks.js'
import { fitCall, sizeCall } from './call/fit_call.js'
import { guidancePerCall } from './call/guidance.js'
import { type DecodedFrame, Job } from './call/job.js'
import { type PreparedCall, prepareFiles } from './call/preparation.js'
import { Queue } from './call/queue.js'
import { buildRequest } from './call/request.js'
import { describeSettings } from './call/settings.js'
import { abortSignal, integer } from './checks/kinds.js'
import { checkOptions } from './checks/options.js'
import { chooseSeed } from './checks/seed.js'
import { TorchreelError } from './errors.js'
import { type LoadedModel, loadModel } from './loading.js'
import type { GenerateOptions } from './options/call.js'
import {
  type CheckedPipelineOptions,
  checkPipelineOptions,
  type PipelineOptions,
} from './options/pipeline.js'
import { version } from './package.js'
import { type Scheduler, schedulerFrom } from './schedulers/index.js'
import { type DenoisingProgram, decodeProgram } from './schedulers/program.js'
import type { Tensor } from './tensor.js'
import type { Video } from './video/video.js'

/** How prompts are embedded. */
export interface EncodePromptOptions {
  /** Take the text encoder's output this many layers before the last. @defaultValue 0 */
  clipSkip?: number | undefined
  signal?: AbortSignal | undefined
}

/** Embeddings of prompts, (P, L, D). */
export interface PromptEmbeddings extends Tensor {
  /** Prompts that were cut short. */
  readonly warnings: readonly string[]
}

/**
 * Text to video with one checkpoint. A call is checked, fitted to the model, and prepared in its turn; then its prompt
 * becomes tokens and its steps a denoising program, both go to the core's text encoder, denoiser and VAE on a thread of the
 * pipeline's own, and the frames become a {@link Video}.
 */
export class TextToVideoPipeline implements AsyncDisposable {
  /** Makes the denoising programs of calls that name no scheduler. Settable. */
  scheduler: Scheduler
  readonly #model: LoadedModel
  readonly #options: Pick<CheckedPipelineOptions, 'captureGraph' | 'limits'>
  readonly #queue: Queue
  readonly #adapters: Adapters
  /** Ends work beside the native jobs: ffmpeg. */
  readonly #disposal = new AbortController()
  #disposed: Promise<void> | undefined

  private constructor(model: LoadedModel, options: CheckedPipelineOptions) {
    const { checkpoint, tokenizer, native, scheduler } = model
    this.#model = model
    this.#options = options
    this.#queue = new Queue(options.limits.queue)
    this.#adapters = new Adapters(checkpoint, tokenizer, native, options.limits.headerBytes)
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
    return TextToVideoPipeline.load(name, checkPipelineOptions(options))
  }

  /** @internal `fromPretrained` with checked options. */
  static async load(name: string | undefined, options: CheckedPipelineOptions): Promise<TextToVideoPipeline> {
    return new TextToVideoPipeline(await loadModel(name, options), options)
  }

  /** The model as it was asked for: owner/name, or the name of its folder. */
  get model(): string {
    return this.#model.name
  }

  /** The folder of the checkpoint. */
  get folder(): string {
    return this.#model.checkpoint.folder
  }

  /** Where the networks compute: 'cpu', 'cuda:0' … */
  get device(): string {
    return this.#model.device
  }

  /** The number type that the networks compute in. */
  get dtype(): 'float16' | 'bfloat16' | 'float32' {
    return this.#model.dtype
  }

  /** The version of the loaded libtorch, such as '2.13.0+cpu'. */
  get libtorch(): string {
    return this.#model.libtorch
  }

  /** What was chosen for the caller while loading. */
  get warnings(): readonly string[] {
    return this.#model.warnings
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
    const videos = await this.run(checkCall(prompt, options, this.#options.limits))
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
    const call = checkCall(prompt, options, this.#options.limits)
    const left = new AbortController()
    const signal = call.signal ? AbortSignal.any([call.signal, left.signal]) : left.signal
    return new ReadableStream<DecodedFrame>({
      start: (controller) => {
        this.run({ ...call, signal }, { onFrame: (frame) => controller.enqueue(frame) }).then(
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
    const prompts = checkPrompts(prompt, this.#options.limits)
    const { clipSkip, signal } = checkOptions(options, {
      clipSkip: { kind: integer(0, this.#model.facts.textLayers - 1), default: 0 },
      signal: { kind: abortSignal },
    })
    const warnings: string[] = []
    let embeddings: Tensor | undefined
    const start = async () => {
      this.#assertUsable()
      const text = { tokens: this.#model.tokenizer.encodeAll(prompts, 'prompt', warnings), clipSkip }
      const take = (event: NativeEvent) => {
        if (event.type === 'embeddings') embeddings = { data: event.data, shape: event.shape }
      }
      await this.#model.native.encode(prompts.length, text, take, signal)
    }
    await this.#queue.run({ start, signal })
    return { ...(embeddings as Tensor), warnings }
  }

  /** Where the pipeline's memory is now: mapped files, copied weights, the device. Also while a job runs. */
  memory(): PipelineMemory {
    this.#assertUsable()
    return pipelineMemory(this.device, this.dtype, this.#model.native.memory())
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
   * Loads a LoRA for the denoiser, the text encoder or both, and adds it to the weights for the calls that come after. It
   * works beside those that are loaded already.
   *
   * @param file safetensors in the layout of PEFT and diffusers (`unet.….lora_A.weight`) or Kohya (`lora_unet_…`)
   * @returns its name
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` for a pickle,
   * `ERR_MODEL_INCOMPATIBLE` naming up to ten tensors that do not fit the model; then nothing has changed
   */
  async loadLora(file: string, options: LoraOptions = {}): Promise<string> {
    this.#assertUsable()
    const lora = checkLora(file, options)
    return this.#queue.exclusive(() => this.#adapters.loadLora(lora))
  }

  /** Sets how strongly the LoRAs work: 1 without a scale; those that are not named do not work. */
  async setAdapters(adapters: readonly { name: string; scale?: number | undefined }[]): Promise<void> {
    this.#assertUsable()
    const scales = checkScales(adapters)
    return this.#queue.exclusive(() => this.#adapters.setScales(scales))
  }

  /** Removes a LoRA, or all: the weights are the checkpoint's again, bit for bit. */
  async unloadLora(name?: string): Promise<void> {
    this.#assertUsable()
    return this.#queue.exclusive(() => this.#adapters.unloadLora(name))
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
    const inversion = checkTextualInversion(file, options)
    return this.#queue.exclusive(() => this.#adapters.loadTextualInversion(inversion))
  }

  /** Removes the word of a textual inversion, or all. */
  async unloadTextualInversion(token?: string): Promise<void> {
    this.#assertUsable()
    return this.#queue.exclusive(() => this.#adapters.unloadTextualInversion(token))
  }

  /** Ends the running job and the waiting ones with `ERR_DISPOSED`, and frees all memory. Idempotent. */
  dispose(): Promise<void> {
    this.#disposal.abort(new TorchreelError('ERR_DISPOSED', 'the pipeline was disposed of meanwhile'))
    this.#disposed ??= this.#model.native.close()
    return this.#disposed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #assertUsable(): void {
    if (this.#disposed) throw new TorchreelError('ERR_DISPOSED', 'the pipeline is disposed')
  }

  /**
   * @internal Runs a checked call.
   *
   * @param beside `outputChecked`: the output file was checked already
   */
  async run(
    call: Call,
    beside: { onFrame?: (frame: DecodedFrame) => void; outputChecked?: boolean } = {},
  ): Promise<Video[]> {
    const { facts, compiledDenoiser } = this.#model
    const { limits } = this.#options
    checkTogether(this.#options, call)
    const fitted = fitCall(call, facts)
    const scheduler = this.#schedulerFor(call.scheduler)
    const { steps, eta, strength, timesteps, sigmas } = fitted
    const program = scheduler.program(steps, { eta, strength, timesteps, sigmas })
    decodeProgram(program) // refuses one that the core would refuse
    const guidance = guidancePerCall(fitted, program.timesteps.length)
    if (compiledDenoiser) {
      requireCompiledCall(compiledDenoiser, fitted, guidance, facts.positions)
      requireCompiledSize(compiledDenoiser, fitted)
    }
    const start = (prepared: PreparedCall) =>
      this.#start(prepared, scheduler, program, guidance, beside.onFrame)

    const { video, signal } = call
    const output = beside.outputChecked ? undefined : call.output
    const sized = video === undefined ? sizeCall(fitted, facts, limits) : undefined
    if (sized && !output) return this.#queue.run({ start: () => start({ call: sized }), signal })
    const ends = AbortSignal.any([this.#disposal.signal, ...(signal ? [signal] : [])])
    const preparation = { model: facts, limits, output, signal: ends }
    const prepare = () => prepareFiles(fitted, sized, preparation)
    return this.#queue.run({ prepare, start, signal })
  }

  async #start(
    prepared: PreparedCall,
    scheduler: Scheduler,
    program: DenoisingProgram,
    guidance: Float64Array,
    onFrame: ((frame: DecodedFrame) => void) | undefined,
  ): Promise<Video[]> {
    this.#assertUsable()
    const { call, source } = prepared
    const { tokenizer, facts, native, compiledDenoiser } = this.#model
    if (compiledDenoiser) requireCompiledSize(compiledDenoiser, call)
    const seeds = call.seeds ?? [chooseSeed()]
    const warnings = [...this.warnings, ...(source?.warnings ?? [])]
    // One frame at a time takes least memory and is fastest on a CPU; a GPU wants more to do.
    const decodeChunk = this.device === 'cpu' ? 1 : 4
    const { vaeScale } = facts
    const context = { program, guidance, seeds, tokenizer, vaeScale, decodeChunk, warnings }
    const request = buildRequest(prepared, context)
    const settings = describeSettings(call, scheduler, this.#adapters)
    const { model, libtorch, device, dtype } = this
    const { videos, steps, strength, guidanceScale } = call
    const factsOf = (index: number) => ({
      ...{ torchreel: version, model, libtorch, device, dtype, warnings },
      compiledDenoiser: compiledDenoiser && path.basename(compiledDenoiser.file),
      ...{ steps, strength, guidanceScale, scheduler: scheduler.name },
      seed: seeds[index] ?? seeds[0],
      settings: videos > seeds.length ? { ...settings, batch: { videos, index } } : settings,
    })
    const job = new Job(call, factsOf, onFrame)
    try {
      await native.generate(request, (event) => job.take(event), call.signal)
      return await job.finish()
    } catch (error) {
      await job.discard(error)
      throw error
    }
  }

  #schedulerFor(choice: Scheduler | string | undefined): Scheduler {
    if (choice === undefined) return this.scheduler
    if (typeof choice !== 'string') return choice
    const config = this.#model.checkpoint.schedulerConfig
    return schedulerFrom(choice === 'checkpoint' ? String(config._class_name) : choice, config)
  }
}
