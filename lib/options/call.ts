import type { Stage } from '../addon/interface.js'
import {
  abortSignal,
  type Check,
  callback,
  fileNamePart,
  flag,
  integer,
  type Numbers,
  number,
  numbersOf,
  oneOf,
  reader,
  sideOf,
  text,
} from '../checks/checks.js'
import { invalidArgument } from '../errors.js'
import type { HubOptions } from '../hub/hub.js'
import type { Scheduler } from '../schedulers/index.js'
import { checkVideoInput, type VideoInput } from '../video/read/source_video.js'
import type { Video } from '../video/video.js'
import { type Output, outputOf } from '../video/write/recording.js'
import {
  each,
  freeUOf,
  intervalOf,
  negativeEmbeds,
  notWithVideo,
  numbers,
  perStep,
  promptsOf,
  promptWithin,
  scheduler,
  seed,
  tilingOf,
  windowOf,
} from './call_values.js'
import { type Limits, limitsOf, standardLimits } from './limits.js'
import { defaults, type ModelLimits, sizesOf } from './sizes.js'

/** How far a call is. */
export interface Progress {
  readonly stage: 'download' | Stage
  /** How much of the stage is done: bytes of a download, calls of the network, frames decoded. */
  readonly step: number
  readonly steps: number
  /** Milliseconds since the call began. */
  readonly elapsedMs: number
  /** Milliseconds until the stage ends, from its pace so far; undefined before the first step. */
  readonly etaMs: number | undefined
}

/** Called as a call goes on. What it throws or rejects with ends the call. */
export type OnProgress = (progress: Progress) => void | Promise<void>

/** What a job looks like on the way: its frames at the latents' size, one pixel for 8 × 8. */
export interface Preview {
  /** Of which prompt, from 0. */
  readonly index: number
  readonly step: number
  readonly steps: number
  readonly video: Video
}

/** Where a checkpoint comes from and how it is loaded. */
export interface PipelineOptions
  extends Pick<HubOptions, 'revision' | 'cacheDir' | 'token' | 'localFilesOnly'> {
  /** 'auto', 'cpu', 'cuda' or 'cuda:N'. @defaultValue 'auto': CUDA where there is one, else the CPU */
  device?: string | undefined
  /** What the networks compute in. @defaultValue 'float16' on CUDA, 'float32' on the CPU */
  dtype?: 'float16' | 'bfloat16' | 'float32' | undefined
  /** Which files: 'fp16' reads `*.fp16.safetensors`. @defaultValue those without a variant, else fp16 */
  variant?: string | undefined
  /**
   * What stays off the device, for less memory and more time. 'model': only the network that computes is on it.
   * 'sequential': of the UNet only the block that computes and the next, whose weights are copied meanwhile. The same
   * video in all modes: weights also stay in host memory, mapped from their files, so nothing is copied back.
   * @defaultValue 'none'
   */
  offload?: 'none' | 'model' | 'sequential' | undefined
  /**
   * Record a step of the UNet as a CUDA graph and repeat it, for a GPU that is faster with its kernels than the host with
   * launching them. The first step of each size is done as ever, the second recorded; a recording holds the memory of a
   * step. Not with `offload: 'sequential'` nor with `featureCache`, and with 'model' each call records anew. @defaultValue false
   */
  captureGraph?: boolean | undefined
  /**
   * A package of the UNet's step as machine code, which `models/export.py --compile` wrote on such a machine: for one
   * size, device and dtype, of one video, with guidance in all steps or in none. Other calls are refused. It is a program
   * and runs with your rights: name only what you made yourself. Not with `offload: 'sequential'`. @defaultValue none: the
   * UNet's graph
   */
  compiledDenoiser?: string | undefined
  /** Threads that a CPU operation uses. @defaultValue libtorch's choice */
  threads?: number | undefined
  /** The folder of libtorch. @defaultValue `TORCHREEL_LIBTORCH`, else what `torchreel setup` got */
  libtorch?: string | undefined
  /** Run the TorchScript graphs in the checkpoint's `graphs/`; they are programs. @defaultValue false */
  trustGraph?: boolean | undefined
  /**
   * Read the weights whole before they are loaded, and compare them with the sha256 that `SHA256SUMS` in the model's
   * folder or Hugging Face's cache knows of them. @defaultValue false: downloads were compared when they came
   */
  verify?: boolean | undefined
  /** How much may be asked for. @defaultValue each limit's own */
  limits?: Partial<Limits> | undefined
  /** Aborts a download, and loading after the network that is being loaded; the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
  /** Called while a model is downloaded. */
  onProgress?: OnProgress | undefined
}

/**
 * The factors of FreeU (Si et al. 2023, https://arxiv.org/abs/2309.11497), which shifts weight in the UNet's first two up
 * blocks, at no cost worth naming, from the skips to the backbone. 1 changes nothing.
 */
export interface FreeU {
  /** Of the lowest frequencies of the skips into up block 0 and 1; at most 1 as a rule, such as 0.9 and 0.2. */
  readonly s1: number
  readonly s2: number
  /** Of the first half of the channels that these skips join; at least 1 as a rule, such as 1.2 and 1.4. */
  readonly b1: number
  readonly b2: number
}

/** How a video is made. */
export interface GenerateOptions {
  /** Denoising steps, 1 to 1000. @defaultValue 25 */
  steps?: number | undefined
  /** Frames of the video. The published models were trained on 16. @defaultValue 16 */
  frames?: number | undefined
  /** Pixels, a multiple of the VAE's scale (8). @defaultValue the model's own (256) */
  width?: number | undefined
  /** Pixels, a multiple of the VAE's scale (8). @defaultValue the model's own (256) */
  height?: number | undefined
  /**
   * How strongly the prompt guides, or how strongly in each step; where it is 1 or less the network runs on the prompt
   * alone. @defaultValue the model's own where it names one (`shapes`: 3), else 9, and 15 with a video, as the
   * reference has it
   */
  guidanceScale?: number | readonly number[] | undefined
  /** What the video should not show: one for all prompts, or one each. @defaultValue '' */
  negativePrompt?: string | readonly string[] | undefined
  /** 0 to 2^53 − 1: one that draws for all prompts, or one each. @defaultValue chosen at random, and in the result */
  seed?: number | readonly number[] | undefined
  /** η of DDIM and γ of TCD, 0 to 1; other schedulers have no use for it. @defaultValue 0 */
  eta?: number | undefined
  /** Take the text encoder's output this many layers before the last, for the prompt only. @defaultValue 0 */
  clipSkip?: number | undefined
  /** Frames per second of the result. @defaultValue 8 */
  fps?: number | undefined
  /** A scheduler or the name of one, made from the checkpoint's config. @defaultValue `pipeline.scheduler` */
  scheduler?: Scheduler | string | undefined
  /**
   * Start from a video in place of noise, and change it as the prompt says: a file that ffmpeg reads, a {@link Video}, or
   * frames of rgb24. `frames`, `width`, `height` and `fps` are the video's own unless they are given (a size that is no
   * multiple of the VAE's scale becomes the nearest one, which `warnings` says); another size is reached by bicubic
   * resizing. Several prompts start from the same video.
   */
  video?: VideoInput | undefined
  /**
   * Write the video to a file while it is decoded: a path, or one with {@link Video.save}'s options. It is the file that
   * `save` would write, sooner; what would keep `save` from it fails before the first step. For one prompt; `video.file`
   * says where it is.
   */
  output?: string | URL | Output | undefined
  /** The ffmpeg that reads a video from a file and writes `output`. @defaultValue see {@link findFfmpeg} */
  ffmpeg?: string | undefined
  /**
   * How much of the video to give up, above 0 to 1: of the steps, the last `steps · strength` are taken.
   * @defaultValue 0.6
   */
  strength?: number | undefined
  /** The timesteps to call the network at, see {@link ProgramOptions}; `steps` is their number. */
  timesteps?: readonly number[] | undefined
  /** σ of each step and of the end, see {@link ProgramOptions}; `steps` is one less. */
  sigmas?: readonly number[] | undefined
  /**
   * The VAE works on tiles of `tileSize` pixels (by default the size it was trained on, 512) that share the fraction
   * `overlap` (0 to 0.5, by default 0.25) and are blended there. It needs less memory for large frames, and changes them a
   * little. It works on one frame at a time in any case. @defaultValue false
   */
  vaeTiling?: boolean | { readonly tileSize?: number; readonly overlap?: number } | undefined
  /** Start from these in place of noise: (B, C, F, height / 8, width / 8), of unit variance. */
  latents?: Numbers | undefined
  /** In place of prompts: (B, L, D) as {@link TextToVideoPipeline.encodePrompt} gives them. */
  promptEmbeds?: Numbers | undefined
  /** In place of negative prompts, and of the same shape as `promptEmbeds`. */
  negativePromptEmbeds?: Numbers | undefined
  /** FreeU's four factors, 0 to 10. @defaultValue off */
  freeU?: FreeU | undefined
  /**
   * For videos longer than the model was trained on: the network sees this many frames at a time, in windows that share
   * `overlap` of them (by default half) and are blended where they do.
   */
  window?: number | { readonly frames: number; readonly overlap?: number | undefined } | undefined
  /**
   * For less time, and a video that is a little another: of so many calls of the network the first computes all blocks, the
   * others only the outermost, with what the inner ones gave in the first (DeepCache, Ma et al. 2023,
   * https://arxiv.org/abs/2312.00858), 1 to 1000. A scheduler of second order calls twice a step; a call that comes without
   * guidance after one with it, or the other way, computes all. docs/performance.md says what it gains and costs.
   * @defaultValue 1: all calls compute all blocks
   */
  featureCache?: number | undefined
  /**
   * For less time: guide only in these of the steps, from and to as fractions of all of them, such as [0.2, 0.8]: those
   * whose middle lies between (Kynkäänniemi et al. 2024, https://arxiv.org/abs/2404.07724). In the others the network runs
   * on the prompt alone, at half the work. @defaultValue [0, 1]: in all
   */
  guidanceInterval?: readonly [from: number, to: number] | undefined
  /** Aborts the job within a step; the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
  /** Called as the job goes on. What it throws ends the job and rejects the call. */
  onProgress?: OnProgress | undefined
  /** Called with small frames made of the latents, without the VAE. What it throws ends the job. */
  onPreview?: ((preview: Preview) => void | Promise<void>) | undefined
  /** Calls of the network between previews. @defaultValue 5 */
  previewEvery?: number | undefined
  /**
   * Go on when the UNet or the VAE gives NaN or infinity, which becomes black, in place of `ERR_NUMERIC`.
   * @defaultValue false
   */
  allowNonFinite?: boolean | undefined
  /** Give the denoised latents with the video. @defaultValue false */
  returnLatents?: boolean | undefined
}

const maxSteps = 1000

const pipelineKeys: readonly string[] = [
  ...(['revision', 'cacheDir', 'token', 'localFilesOnly', 'device', 'dtype', 'variant', 'offload'] as const),
  ...([
    'captureGraph',
    'compiledDenoiser',
    'threads',
    'libtorch',
    'trustGraph',
    'verify',
    'limits',
    'signal',
    'onProgress',
  ] as const),
] satisfies (keyof PipelineOptions)[]

const generateKeys: readonly string[] = [
  ...(['steps', 'frames', 'width', 'height', 'guidanceScale', 'negativePrompt', 'seed', 'eta'] as const),
  ...(['clipSkip', 'fps', 'scheduler', 'latents', 'promptEmbeds', 'negativePromptEmbeds'] as const),
  ...(['video', 'ffmpeg', 'output', 'strength', 'timesteps', 'sigmas', 'vaeTiling', 'freeU'] as const),
  ...([
    'window',
    'featureCache',
    'guidanceInterval',
    'signal',
    'onProgress',
    'onPreview',
    'previewEvery',
    'returnLatents',
  ] as const),
  'allowNonFinite',
] satisfies (keyof GenerateOptions)[]

/** Every option of a pipeline, each read once and of its type. */
export function checkPipelineOptions(options: PipelineOptions) {
  const read = reader(options, pipelineKeys)
  const offload = read('offload', 'none', oneOf('none', 'model', 'sequential'))
  const captureGraph = read('captureGraph', false, flag)
  if (captureGraph && offload === 'sequential')
    throw invalidArgument(
      'captureGraph',
      "false with offload 'sequential', whose weights move in each step",
      true,
    )
  const compiledDenoiser = read('compiledDenoiser', undefined, text)
  if (compiledDenoiser !== undefined && offload === 'sequential')
    throw invalidArgument(
      'compiledDenoiser',
      "undefined with offload 'sequential': it has no blocks",
      compiledDenoiser,
    )
  return {
    revision: read('revision', undefined, text),
    cacheDir: read('cacheDir', undefined, text),
    token: read('token', undefined, token),
    localFilesOnly: read('localFilesOnly', undefined, flag),
    device: read('device', 'auto', deviceName),
    dtype: read('dtype', undefined, oneOf('float16', 'bfloat16', 'float32')),
    variant: read('variant', undefined, fileNamePart),
    offload,
    captureGraph,
    compiledDenoiser,
    threads: read('threads', 0, integer(1, 1024)),
    libtorch: read('libtorch', undefined, text),
    trustGraph: read('trustGraph', false, flag),
    verify: read('verify', false, flag),
    limits: read('limits', standardLimits, limitsOf),
    signal: read('signal', undefined, abortSignal),
    onProgress: read('onProgress', undefined, callback<OnProgress>()),
  }
}

/** A call of generate with every default filled in. */
export type CheckedGenerateOptions = ReturnType<typeof checkGenerateOptions>

/**
 * Checks a call before anything heavy: types, ranges, unknown names, sizes that fit the model, limits.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`
 */
export function checkGenerateOptions(
  prompt: string | readonly string[] | undefined,
  options: GenerateOptions,
  model: ModelLimits,
  limits: Limits = standardLimits,
) {
  const read = reader(options, generateKeys)
  const promptEmbeds = read('promptEmbeds', undefined, numbersOf([null, null, model.textSize]))
  const texts = promptsOf(prompt, promptEmbeds, limits)
  const videos = promptEmbeds?.shape[0] ?? texts.length

  const video = read('video', undefined, checkVideoInput)
  const strength = read('strength', video === undefined ? undefined : 0.6, number(0, 1))
  if (strength !== undefined && video === undefined) {
    throw invalidArgument('strength', 'given together with a video', strength)
  }
  const timesteps = read('timesteps', undefined, numbers(1, maxSteps))
  const sigmas = read('sigmas', undefined, numbers(2, maxSteps + 1))
  const steps = read(
    'steps',
    timesteps?.length ?? (sigmas ? sigmas.length - 1 : defaults.steps),
    integer(1, maxSteps),
  )
  const wishes = {
    frames: read('frames', undefined, integer(1, 4096)),
    width: read('width', undefined, sideOf(model.vaeScale)),
    height: read('height', undefined, sideOf(model.vaeScale)),
    fps: read('fps', undefined, number(0.1, 240)),
  }
  const standard = video === undefined ? model : { ...model, size: model.vaeScale }
  const sizes = sizesOf(wishes, videos, standard, limits.pixels)
  const output = read('output', undefined, outputOf)
  if (output && videos > 1) throw invalidArgument('output', 'given with one prompt', output)
  const onPreview = read('onPreview', undefined, callback<NonNullable<GenerateOptions['onPreview']>>())
  const previewEvery = read('previewEvery', 5, integer(1, 1000))
  return {
    prompts: texts,
    promptEmbeds,
    videos,
    steps,
    wishes,
    ...sizes,
    negativePrompts: read(
      'negativePrompt',
      texts.map(() => ''),
      each('negativePrompt', texts.length, promptWithin(limits)),
    ),
    negativePromptEmbeds: read('negativePromptEmbeds', undefined, negativeEmbeds(promptEmbeds)),
    video,
    strength,
    timesteps,
    sigmas,
    ffmpeg: read('ffmpeg', undefined, text),
    output,
    vaeTiling: read('vaeTiling', undefined, tilingOf(model)),
    guidanceScale: read(
      'guidanceScale',
      model.guidanceScale ?? (video === undefined ? 9 : 15),
      perStep(steps, number(0, 1000)),
    ),
    seeds: read('seed', undefined, each('seed', videos, seed, 1)),
    eta: read('eta', 0, number(0, 1)),
    clipSkip: read('clipSkip', 0, integer(0, model.textLayers - 1)),
    scheduler: read('scheduler', undefined, scheduler),
    latents: read('latents', undefined, video === undefined ? numbersOf(sizes.latentShape) : notWithVideo),
    freeU: read('freeU', undefined, freeUOf),
    window: read('window', undefined, windowOf),
    featureCache: read('featureCache', 1, integer(1, 1000)),
    guidanceInterval: read('guidanceInterval', undefined, intervalOf),
    signal: read('signal', undefined, abortSignal),
    onProgress: read('onProgress', undefined, callback<OnProgress>()),
    onPreview,
    latentsEvery: onPreview ? previewEvery : 0,
    allowNonFinite: read('allowNonFinite', false, flag),
    returnLatents: read('returnLatents', false, flag),
  }
}

const deviceName: Check<string> = (name, value) => {
  if (typeof value === 'string' && /^(auto|cpu|cuda(:\d+)?)$/.test(value)) return value
  throw invalidArgument(name, "'auto', 'cpu', 'cuda' or 'cuda:N'", value)
}

const token: Check<string | false> = (name, value) => (value === false ? false : text(name, value))
