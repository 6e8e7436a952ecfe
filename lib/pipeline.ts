import path from 'node:path'
import { type Checkpoint, readCheckpoint } from './checkpoint.js'
import { invalidArgument, TorchreelError } from './errors.js'
import { chooseSeed } from './generator.js'
import {
  checkDevice,
  loadNative,
  type NativeEvent,
  NativePipeline,
  type NativeRequest,
  type Stage,
} from './native.js'
import {
  type CheckedGenerateOptions,
  checkGenerateOptions,
  checkPipelineOptions,
  type GenerateOptions,
  type PipelineOptions,
} from './options.js'
import type { DenoisingProgram } from './program.js'
import { DPMSolverMultistepScheduler, type Scheduler, schedulerFrom } from './schedulers/index.js'
import { Tokenizer } from './tokenizer.js'
import { version } from './version.js'
import type { Latents, VideoFacts } from './video/facts.js'
import { Video } from './video/video.js'

/**
 * Text to video with one checkpoint. The way of the data is `generate`'s: prompt → tokens, steps → denoising program,
 * both → the core's text encoder, UNet and VAE on a thread of the pipeline's own, frames → {@link Video}.
 */
export class TextToVideoPipeline implements AsyncDisposable {
  /** Makes the denoising programs. Settable; what `generate` uses when it is not told otherwise. */
  scheduler: Scheduler
  /** The folder of the checkpoint. */
  readonly model: string
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
  readonly #threads: number
  #disposed: Promise<void> | undefined

  private constructor(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    native: NativePipeline,
    made: Pick<TextToVideoPipeline, 'device' | 'dtype' | 'libtorch'> & { threads: number },
  ) {
    this.#checkpoint = checkpoint
    this.#tokenizer = tokenizer
    this.#native = native
    this.#threads = made.threads
    this.model = checkpoint.folder
    this.device = made.device
    this.dtype = made.dtype
    this.libtorch = made.libtorch
    this.warnings = checkpoint.warnings
    this.scheduler = DPMSolverMultistepScheduler.fromConfig(checkpoint.schedulerConfig)
  }

  /**
   * Loads a checkpoint in the published layout (a folder with model_index.json, unet/, vae/, text_encoder/, tokenizer/,
   * scheduler/). On the CPU in the files' own dtype the weights are mapped, not copied.
   *
   * @throws TorchreelError for options, a missing, broken, untrusted or incompatible checkpoint, a missing device, and
   * whatever keeps libtorch from loading
   */
  static async fromPretrained(folder: string, options: PipelineOptions = {}): Promise<TextToVideoPipeline> {
    if (typeof folder !== 'string' || folder === '' || folder.includes('\0')) {
      throw invalidArgument('folder', "a checkpoint's folder", folder)
    }
    const checked = checkPipelineOptions(options)
    const checkpoint = await readCheckpoint(folder, checked)
    const tokenizer = await Tokenizer.load(checkpoint.tokenizerFolder, checkpoint.positions)
    const { libtorch } = loadNative(checked.libtorch)
    const device = resolveDevice(checked.device ?? 'auto')
    const dtype = checked.dtype ?? (device === 'cpu' ? 'float32' : 'float16')
    const native = await NativePipeline.open({
      textEncoder: checkpoint.files.text_encoder,
      unet: checkpoint.files.unet,
      vae: checkpoint.files.vae,
      device,
      dtype,
      offload: checked.offload ?? 'none',
      scalingFactor: checkpoint.scalingFactor,
      latentChannels: checkpoint.latentChannels,
    })
    const made = { device, dtype, libtorch: libtorch.version, threads: checked.threads ?? 0 }
    return new TextToVideoPipeline(checkpoint, tokenizer, native, made)
  }

  /**
   * Makes a video of a prompt, or one of each prompt. Calls wait for each other, first in first out; the event loop
   * stays free. The same seed and options give the same video.
   *
   * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`, `ERR_NUMERIC`, `ERR_OUT_OF_MEMORY`,
   * `ERR_DISPOSED`; `signal.reason` when aborted; what `onProgress` throws
   */
  async generate(prompt: string, options?: GenerateOptions): Promise<Video>
  async generate(prompts: readonly string[], options?: GenerateOptions): Promise<Video[]>
  async generate(
    prompt: string | readonly string[],
    options: GenerateOptions = {},
  ): Promise<Video | Video[]> {
    if (this.#disposed) throw new TorchreelError('ERR_DISPOSED', 'the pipeline is disposed')
    const checked = checkGenerateOptions(prompt, options, this.#checkpoint)
    const scheduler = this.#schedulerFor(checked.scheduler)
    checked.signal?.throwIfAborted()

    const seed = checked.seed ?? chooseSeed()
    const warnings = [...this.warnings]
    const program = scheduler.program(checked.steps, { eta: checked.eta })
    const request = this.#request(checked, program, seed, warnings)

    const collector = new Collector(checked)
    await this.#native.generate(request, (event) => collector.take(event), checked.signal)
    const facts: VideoFacts = {
      ...{
        seed,
        steps: checked.steps,
        guidanceScale: checked.guidanceScale,
        scheduler: scheduler.name,
        warnings,
      },
      ...{ model: path.basename(this.model), torchreel: version },
      ...{ libtorch: this.libtorch, device: this.device, dtype: this.dtype },
    }
    const videos = checked.prompts.map((_, index) => collector.video(index, facts))
    return typeof prompt === 'string' ? (videos[0] as Video) : videos
  }

  /** Ends the job that runs and those that wait with `ERR_DISPOSED`, and gives all memory back. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#native.close()
    return this.#disposed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #schedulerFor(choice: Scheduler | string | undefined): Scheduler {
    if (choice === undefined) return this.scheduler
    if (typeof choice !== 'string') return choice
    const config = this.#checkpoint.schedulerConfig
    return schedulerFrom(choice === 'checkpoint' ? String(config._class_name) : choice, config)
  }

  #request(
    { prompts, negativePrompts, ...checked }: CheckedGenerateOptions,
    program: DenoisingProgram,
    seed: number,
    warnings: string[],
  ): NativeRequest {
    const { vaeScale } = this.#checkpoint
    const guided = checked.guidanceScale > 1
    return {
      videos: prompts.length,
      tokens: this.#encode(prompts, 'prompt', warnings),
      negativeTokens: guided ? this.#encode(negativePrompts, 'negativePrompt', warnings) : undefined,
      clipSkip: checked.clipSkip,
      frames: checked.frames,
      latentHeight: checked.height / vaeScale,
      latentWidth: checked.width / vaeScale,
      program: program.code,
      guidance: new Float64Array(program.timesteps.length).fill(checked.guidanceScale),
      seeds: [seed],
      decodeChunk: 1,
      threads: this.#threads,
    }
  }

  /** (B, L), all rows one after the other. */
  #encode(prompts: readonly string[], name: string, warnings: string[]): Int32Array {
    const rows = new Int32Array(prompts.length * this.#tokenizer.length)
    for (const [index, prompt] of prompts.entries()) {
      const { ids, cut } = this.#tokenizer.encode(prompt)
      rows.set(ids, index * this.#tokenizer.length)
      if (cut > 0)
        warnings.push(`${name}: the last ${cut} tokens were cut off, since the model reads ${ids.length - 2}`)
    }
    return rows
  }
}

function resolveDevice(device: string): string {
  if (device !== 'auto') {
    checkDevice(device)
    return device === 'cuda' ? 'cuda:0' : device
  }
  try {
    checkDevice('cuda:0')
    return 'cuda:0'
  } catch (error) {
    if (error instanceof TorchreelError && error.code === 'ERR_DEVICE_UNAVAILABLE') return 'cpu'
    throw error
  }
}

/** Gathers what a job reports: frames as they are decoded, latents, times; and tells the caller of progress. */
class Collector {
  readonly #options: CheckedGenerateOptions
  readonly #started = performance.now()
  readonly #stageStarts = new Map<Stage, number>()
  readonly #timings: Record<string, number> = {}
  #pixels: Uint8Array | undefined
  #latents: Latents | undefined

  constructor(options: CheckedGenerateOptions) {
    this.#options = options
  }

  async take(event: NativeEvent): Promise<void> {
    if (event.type === 'frames') {
      const length = event.height * event.width * 3
      this.#pixels ??= new Uint8Array(this.#options.prompts.length * this.#options.frames * length)
      this.#pixels.set(event.data, event.first * length)
    } else if (event.type === 'latents') {
      this.#latents = event
    } else {
      await this.#progress(event)
    }
  }

  async #progress({ stage, step, steps }: Extract<NativeEvent, { type: 'progress' }>): Promise<void> {
    const now = performance.now()
    if (!this.#stageStarts.has(stage)) this.#stageStarts.set(stage, now)
    const inStage = now - (this.#stageStarts.get(stage) as number)
    if (step === steps) this.#timings[stage] = inStage
    await this.#options.onProgress?.({
      stage,
      step,
      steps,
      elapsedMs: now - this.#started,
      etaMs: step > 0 ? (inStage / step) * (steps - step) : undefined,
    })
  }

  video(index: number, facts: VideoFacts): Video {
    const { frames, width, height, fps, prompts, negativePrompts, returnLatents } = this.#options
    const pixels = this.#pixels as Uint8Array
    const length = pixels.length / prompts.length
    return new Video({
      ...{ width, height, fps, data: pixels.subarray(index * length, (index + 1) * length) },
      ...facts,
      prompt: prompts[index],
      negativePrompt: negativePrompts[index],
      timings: { ...this.#timings, total: performance.now() - this.#started },
      latents: returnLatents ? this.#latentsOf(index, frames) : undefined,
    })
  }

  #latentsOf(index: number, frames: number): Latents {
    const { data, shape } = this.#latents as Latents
    const [, channels, , height, width] = shape as [number, number, number, number, number]
    const length = channels * frames * height * width
    return {
      data: data.slice(index * length, (index + 1) * length),
      shape: [1, channels, frames, height, width],
    }
  }
}
