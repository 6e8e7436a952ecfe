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
import { type Call, checkCall, checkTogether } from './call/check_call.js'
import {
  checkEncodeCall,
  type EncodePromptOptions,
  encodePrompts,
  type PromptEmbeddings,
} from './call/encode_prompts.js'
import { fitCall, sizeCall } from './call/fit_call.js'
import type { DecodedFrame } from './call/job.js'
import { planSteps } from './call/plan.js'
import { type PreparedCall, prepareFiles } from './call/preparation.js'
import { Queue } from './call/queue.js'
import { runJob } from './call/run_job.js'
import { TorchreelError } from './errors.js'
import type { ModelProperties } from './families/family.js'
import { type LoadedModel, loadModel } from './loading.js'
import type { GenerateOptions } from './options/call.js'
import {
  type CheckedPipelineOptions,
  checkPipelineOptions,
  type PipelineOptions,
} from './options/pipeline.js'
import { type Scheduler, schedulerFrom } from './schedulers/index.js'
import type { Video } from './video/video.js'

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
  static async fromPretrained(
    name?: string | URL,
    options: PipelineOptions = {},
  ): Promise<TextToVideoPipeline> {
    return TextToVideoPipeline.load(name, checkPipelineOptions(options))
  }

  /**
   * @internal `fromPretrained` with checked options.
   *
   * @param call the only call of the pipeline
   */
  static async load(
    name: string | URL | undefined,
    options: CheckedPipelineOptions,
    call?: Call,
  ): Promise<TextToVideoPipeline> {
    return new TextToVideoPipeline(await loadModel(name, options, call), options)
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

  /** @internal What a call needs to know of the model. */
  get properties(): ModelProperties {
    return this.#model.properties
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
    const call = checkEncodeCall(prompt, options, this.#model.properties, this.#options.limits)
    const start = async () => {
      this.#assertUsable()
      return encodePrompts(call, this.#model)
    }
    return this.#queue.run({ start, signal: call.signal })
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
  async loadLora(file: string | URL, options: LoraOptions = {}): Promise<string> {
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
  async loadTextualInversion(file: string | URL, options: TextualInversionOptions = {}): Promise<string> {
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
   * @internal Runs a checked call: fits it to the model, plans its steps, prepares it in its turn, and runs its job.
   *
   * @param beside `outputWarnings`: the output file was checked already, with these warnings
   */
  async run(
    call: Call,
    beside: { onFrame?: (frame: DecodedFrame) => void; outputWarnings?: readonly string[] | undefined } = {},
  ): Promise<Video[]> {
    const { limits } = this.#options
    const { properties } = this.#model
    checkTogether(this.#options, call)
    const signal = this.#signalFor(call)
    const fitted = fitCall({ ...call, signal }, properties)
    const plan = planSteps(fitted, this.#schedulerFor(call.scheduler), this.#model)
    const start = (prepared: PreparedCall) => {
      this.#assertUsable()
      const { warnings = beside.outputWarnings } = prepared
      return runJob({ ...prepared, warnings }, plan, this.#model, this.#adapters, beside.onFrame)
    }

    const output = beside.outputWarnings ? undefined : call.output
    const sized = call.video === undefined ? sizeCall(fitted, properties, limits) : undefined
    if (sized && !output) return this.#queue.run({ start: async () => start({ call: sized }), signal })
    const prepare = () => prepareFiles(fitted, sized, { properties, limits, output })
    return this.#queue.run({ prepare, start, signal })
  }

  /** The signal that ends a call. ffmpeg runs beside the native job, so it must be told of the pipeline's end, too. */
  #signalFor({ video, output, signal }: Call): AbortSignal | undefined {
    if (video === undefined && output === undefined) return signal
    return AbortSignal.any([this.#disposal.signal, ...(signal ? [signal] : [])])
  }

  #schedulerFor(choice: Scheduler | string | undefined): Scheduler {
    if (choice === undefined) return this.scheduler
    if (typeof choice !== 'string') return choice
    const config = this.#model.checkpoint.schedulerConfig
    return schedulerFrom(choice === 'checkpoint' ? String(config._class_name) : choice, config)
  }
}
