import { invalidArgument, TorchreelError } from './errors.js'
import { checkSeed } from './generator.js'
import type { Stage } from './native.js'
import { type Scheduler, schedulerNames } from './schedulers/index.js'
import { suggestion } from './suggestion.js'

/** How far a job is. */
export interface Progress {
  readonly stage: Stage
  /** How many steps of the stage are done: of denoising, or frames of decoding. */
  readonly step: number
  readonly steps: number
  /** Milliseconds since the job began. */
  readonly elapsedMs: number
  /** Milliseconds until the stage ends, from the pace of its steps so far; undefined before the first. */
  readonly etaMs: number | undefined
}

/** How a checkpoint is loaded. */
export interface PipelineOptions {
  /** 'auto', 'cpu', 'cuda' or 'cuda:N'. @defaultValue 'auto': CUDA where there is one, else the CPU */
  device?: string
  /** What the networks compute in. @defaultValue 'float16' on CUDA, 'float32' on the CPU */
  dtype?: 'float16' | 'bfloat16' | 'float32'
  /** Which files: 'fp16' reads `*.fp16.safetensors`. @defaultValue the files without a variant */
  variant?: string
  /**
   * 'model': only the network that computes is on the device; its weights also stay in host memory, so nothing is
   * copied back. @defaultValue 'none'
   */
  offload?: 'none' | 'model'
  /** Threads that a CPU operation uses. @defaultValue libtorch's choice */
  threads?: number
  /** The folder of libtorch. @defaultValue `TORCHREEL_LIBTORCH`, else what `torchreel setup` got */
  libtorch?: string
  /** Run the TorchScript graphs in the checkpoint's `graphs/`; they are programs. @defaultValue false */
  trustGraph?: boolean
}

/** How a video is made. */
export interface GenerateOptions {
  /** Denoising steps, 1 to 1000. @defaultValue 25 */
  steps?: number
  /** Frames of the video. The published models were trained on 16. @defaultValue 16 */
  frames?: number
  /** Pixels, a multiple of the VAE's scale (8). @defaultValue the model's own (256) */
  width?: number
  /** Pixels, a multiple of the VAE's scale (8). @defaultValue the model's own (256) */
  height?: number
  /** How strongly the prompt guides; at 1 and below the network runs on the prompt alone. @defaultValue 9 */
  guidanceScale?: number
  /** What the video should not show: one for all prompts, or one each. @defaultValue '' */
  negativePrompt?: string | readonly string[]
  /** 0 to 2^53 − 1. @defaultValue chosen at random, and in the result */
  seed?: number
  /** η of DDIM, 0 to 1; other schedulers have no use for it. @defaultValue 0 */
  eta?: number
  /** Take the text encoder's output this many layers before the last, for the prompt only. @defaultValue 0 */
  clipSkip?: number
  /** Frames per second of the result. @defaultValue 8 */
  fps?: number
  /** A scheduler or the name of one, made from the checkpoint's config. @defaultValue `pipeline.scheduler` */
  scheduler?: Scheduler | string
  /** Aborts the job within a step; the call rejects with `signal.reason`. */
  signal?: AbortSignal
  /** Called as the job goes on. What it throws ends the job and rejects the call. */
  onProgress?: (progress: Progress) => void | Promise<void>
  /** Give the denoised latents with the video. @defaultValue false */
  returnLatents?: boolean
}

/** What sizes and counts depend on. */
export interface ModelLimits {
  readonly vaeScale: number
  readonly size: number | undefined
  readonly textLayers: number
}

/** Frames × height × width of all videos of a call: 16 of 1024 × 576 and more, yet no typing error's terabyte. */
const maxPixels = 2 ** 28
const maxPromptLength = 20_000

const pipelineKeys: readonly string[] = [
  'device',
  'dtype',
  'variant',
  'offload',
  'threads',
  'libtorch',
  'trustGraph',
] satisfies (keyof PipelineOptions)[]

const generateKeys: readonly string[] = [
  'steps',
  'frames',
  'width',
  'height',
  'guidanceScale',
  'negativePrompt',
  'seed',
  'eta',
  'clipSkip',
  'fps',
  'scheduler',
  'signal',
  'onProgress',
  'returnLatents',
] satisfies (keyof GenerateOptions)[]

/** Every option of a pipeline, each read once and of its type. */
export function checkPipelineOptions(options: PipelineOptions): PipelineOptions {
  const read = reader(options, pipelineKeys)
  const device = read('device', 'auto', text)
  if (!/^(auto|cpu|cuda(:\d+)?)$/.test(device))
    throw invalidArgument('device', "'auto', 'cpu', 'cuda' or 'cuda:N'", device)
  return defined({
    device,
    dtype: read('dtype', undefined, oneOf('float16', 'bfloat16', 'float32')),
    variant: read('variant', undefined, fileNamePart),
    offload: read('offload', 'none', oneOf('none', 'model')),
    threads: read('threads', undefined, integer(1, 1024)),
    libtorch: read('libtorch', undefined, text),
    trustGraph: read('trustGraph', false, flag),
  })
}

/** A call of generate with every default filled in, except what the pipeline itself decides. */
export interface CheckedGenerateOptions
  extends Required<Omit<GenerateOptions, 'seed' | 'scheduler' | 'signal' | 'onProgress' | 'negativePrompt'>>,
    Pick<GenerateOptions, 'seed' | 'scheduler' | 'signal' | 'onProgress'> {
  prompts: string[]
  negativePrompts: string[]
}

/**
 * Checks a call before anything heavy: types, ranges, unknown names, sizes that fit the model, limits.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`, `ERR_LIMIT_EXCEEDED`
 */
export function checkGenerateOptions(
  prompt: string | readonly string[],
  options: GenerateOptions,
  model: ModelLimits,
): CheckedGenerateOptions {
  const prompts = Array.isArray(prompt) ? [...prompt] : [prompt]
  if (prompts.length === 0)
    throw invalidArgument('prompt', 'a string or a non-empty array of strings', prompt)
  for (const one of prompts) checkPrompt('prompt', one)

  const read = reader(options, generateKeys)
  const side = (name: 'width' | 'height') => {
    const value = read(name, model.size, sideOf(name, model.vaeScale))
    if (value !== undefined) return value
    throw invalidArgument(name, 'given: this checkpoint does not say what size it was trained on', value)
  }
  const negative = read('negativePrompt', '', negativePrompt)
  const negativePrompts = typeof negative === 'string' ? prompts.map(() => negative) : [...negative]
  if (negativePrompts.length !== prompts.length) {
    throw invalidArgument('negativePrompt', `one string, or ${prompts.length} as there are prompts`, negative)
  }

  const checked: CheckedGenerateOptions = {
    prompts,
    negativePrompts,
    steps: read('steps', 25, integer(1, 1000)),
    frames: read('frames', 16, integer(1, 4096)),
    width: side('width'),
    height: side('height'),
    guidanceScale: read('guidanceScale', 9, number(0, 1000)),
    eta: read('eta', 0, number(0, 1)),
    clipSkip: read('clipSkip', 0, integer(0, model.textLayers - 1)),
    fps: read('fps', 8, number(0.1, 240)),
    returnLatents: read('returnLatents', false, flag),
    ...defined({
      seed: read('seed', undefined, seed),
      scheduler: read('scheduler', undefined, scheduler),
      signal: read('signal', undefined, abortSignal),
      onProgress: read('onProgress', undefined, callback),
    }),
  }
  const pixels = prompts.length * checked.frames * checked.width * checked.height
  if (pixels > maxPixels) {
    throw new TorchreelError(
      'ERR_LIMIT_EXCEEDED',
      `videos × frames × width × height must be at most ${maxPixels}, got ${pixels}`,
      { parameter: 'frames', expected: `at most ${maxPixels} pixels`, received: pixels },
    )
  }
  return checked
}
