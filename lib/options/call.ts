import {
  abortSignal,
  anyText,
  callback,
  filePath,
  finite,
  flag,
  integer,
  list,
  number,
  oneOrEach,
} from '../checks/kinds.js'
import type { TableOf } from '../checks/options.js'
import { seed } from '../checks/seed.js'
import { defaultByFamily, withRefusals } from '../families/option_texts.js'
import type { OnProgress, Preview } from '../progress.js'
import { type Scheduler, schedulerNames } from '../schedulers/index.js'
import { type Tensor, tensor } from '../tensor.js'
import { type VideoInput, videoInput } from '../video/read/source_video.js'
import { type Output, output } from '../video/write/recording.js'
import { type FreeU, freeU, interval, scheduler, side, vaeTiling, window } from './call_values.js'

/** How a video is made. */
export interface GenerateOptions {
  /** Denoising steps, 1 to 1000. @defaultValue 25, with Wan 50 */
  steps?: number | undefined
  /**
   * Frames of the video. ModelScope models were trained on 16. Wan needs a multiple of 4 plus 1.
   * @defaultValue 16, with Wan 81
   */
  frames?: number | undefined
  /** Pixels, a multiple of 8; Wan: of 16. @defaultValue the model's own: often 256, Wan's 832 */
  width?: number | undefined
  /** Pixels, a multiple of 8; Wan: of 16. @defaultValue the model's own: often 256, Wan's 480 */
  height?: number | undefined
  /**
   * How closely the video follows the prompt: one number, or one for each step. At 1 or less the network runs on the prompt
   * alone, without guidance. @defaultValue the checkpoint's own (`shapes`: 3), else 9, with Wan 5; from a video 15, with Wan 5
   */
  guidanceScale?: number | readonly number[] | undefined
  /** Things that the video must not show: one text for all prompts, or one for each. @defaultValue '' */
  negativePrompt?: string | readonly string[] | undefined
  /** 0 to 2^53 − 1: one for all prompts, or one for each. @defaultValue random; `video.seed` says which */
  seed?: number | readonly number[] | undefined
  /** η of DDIM and γ of TCD, 0 to 1; other schedulers ignore it. @defaultValue 0 */
  eta?: number | undefined
  /** Take the text encoder's output this many layers before the last, for the prompt only; not for Wan. @defaultValue 0 */
  clipSkip?: number | undefined
  /** Frames per second of the result. @defaultValue 8, with Wan 16 */
  fps?: number | undefined
  /** A scheduler or the name of one, made from the checkpoint's config. @defaultValue the pipeline's scheduler: DPM-Solver++, or the checkpoint's class with Wan */
  scheduler?: Scheduler | string | undefined
  /**
   * Start from a video instead of noise, and change it as the prompt says: a file that ffmpeg reads, a {@link Video}, or
   * frames of rgb24. `frames`, `width`, `height` and `fps` default to the video's own. A size that is not a multiple of the
   * model's becomes the nearest multiple, and frames at the end that the model cannot make are left out; `warnings` says so.
   * Other sizes are reached by bicubic resizing. Several
   * prompts start from the same video.
   */
  video?: VideoInput | undefined
  /**
   * Write the video to a file while it is decoded: a path, or a path with {@link Video.save}'s options. It is the file that
   * `save` writes, but sooner; its mistakes fail before the first step. For one prompt; `video.file` is the path.
   */
  output?: string | URL | Output | undefined
  /** The ffmpeg that reads a video from a file and writes `output`. @defaultValue found automatically: see {@link findFfmpeg} */
  ffmpeg?: string | URL | undefined
  /**
   * How much of the source video may change, from 1 / steps to 1: only the last `steps · strength` steps run.
   * @defaultValue 0.6, with Wan 0.8
   */
  strength?: number | undefined
  /** The timesteps to call the network at, see {@link ProgramOptions}; `steps` is their number. @defaultValue the scheduler's */
  timesteps?: readonly number[] | undefined
  /** σ of each step and of the end, see {@link ProgramOptions}; `steps` is one less. @defaultValue the scheduler's */
  sigmas?: readonly number[] | undefined
  /**
   * The VAE works on tiles of `tileSize` pixels that share the fraction `overlap` (0 to 0.5) and are blended there. Large frames need less memory, and change slightly. The VAE
   * works on one frame at a time in any case, Wan's on four; with tiles, Wan's frames come only when all are decoded.
   * @defaultValue false; tiles of 512, with Wan 256, that share 0.25
   */
  vaeTiling?:
    | boolean
    | { readonly tileSize?: number | undefined; readonly overlap?: number | undefined }
    | undefined
  /** Start from these instead of noise: (B, C, F, height / 8, width / 8), of unit variance; F is (frames + 3) / 4 for Wan. @defaultValue noise */
  latents?: Tensor | undefined
  /** Instead of prompts: (B, L, D) as {@link TextToVideoPipeline.encodePrompt} gives them. */
  promptEmbeds?: Tensor | undefined
  /** Instead of negative prompts, in the shape of `promptEmbeds`. */
  negativePromptEmbeds?: Tensor | undefined
  /** FreeU's four factors, 0 to 10; not for Wan. @defaultValue off */
  freeU?: FreeU | undefined
  /**
   * For videos longer than the model was trained on: the network sees this many frames at a time, in windows that share
   * `overlap` frames (by default half) and are blended there. Not for Wan. @defaultValue all frames
   */
  window?: number | { readonly frames: number; readonly overlap?: number | undefined } | undefined
  /**
   * Faster, with a slightly different video: compute all blocks only on every n-th call of the network; between, recompute
   * the outermost and reuse the inner ones' output (DeepCache, Ma et al. 2023, https://arxiv.org/abs/2312.00858), 1 to
   * 1000. A second-order scheduler calls twice a step. The first call after guidance goes on or off computes all blocks.
   * docs/performance.md says what it gains and costs. Not for Wan. @defaultValue 1: every call computes all blocks
   */
  featureCache?: number | undefined
  /**
   * Faster, with a different video: guide only in the steps between these fractions of all steps, such as [0.2, 0.8]
   * (Kynkäänniemi et al. 2024, https://arxiv.org/abs/2404.07724). A step counts by its middle. In the others the network
   * runs on the prompt alone, at half the work. @defaultValue [0, 1]: in all steps
   */
  guidanceInterval?: readonly [from: number, to: number] | undefined
  /** Aborts the job within a step; the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
  /** Called while the job runs. What it throws ends the job and rejects the call. */
  onProgress?: OnProgress | undefined
  /** Called with small frames made of the latents, without the VAE. What it throws ends the job. */
  onPreview?: ((preview: Preview) => void | Promise<void>) | undefined
  /** Calls of the network between previews. @defaultValue 5 */
  previewEvery?: number | undefined
  /**
   * Go on when the denoiser or the VAE gives NaN or infinity, which become black, instead of failing with `ERR_NUMERIC`.
   * @defaultValue false
   */
  allowNonFinite?: boolean | undefined
  /** Return the denoised latents with the video. @defaultValue false */
  returnLatents?: boolean | undefined
}

const maxSteps = 1000

const video = 'The video'
const denoising = 'Denoising'
const source = 'Starting point'
const savings = 'Less time or memory'
const progress = 'Progress'

/** The options of a call. Defaults that depend on the model come from its family. */
export const callOptions = withRefusals({
  frames: {
    kind: integer(1, 4096),
    otherwise: defaultByFamily(({ defaults }) => defaults.frames),
    group: video,
    says: 'number of frames; with Wan, a multiple of 4, plus 1',
    flag: '--frames <n>',
  },
  width: {
    kind: side,
    otherwise: "the model's own",
    unit: 'pixels',
    group: video,
    says: 'width, a multiple of 8; with Wan, of 16',
    flag: '--width <pixels>',
  },
  height: {
    kind: side,
    otherwise: "the model's own",
    unit: 'pixels',
    group: video,
    says: 'height, a multiple of 8; with Wan, of 16',
    flag: '--height <pixels>',
  },
  fps: {
    kind: number(0.1, 240),
    otherwise: defaultByFamily(({ defaults }) => defaults.fps),
    group: video,
    says: 'frames per second',
    flag: '--fps <n>',
  },
  seed: {
    kind: oneOrEach(seed),
    otherwise: 'a random seed; `video.seed` says which',
    group: video,
    says: 'the seed of the random noise: one for all prompts, or one for each; the same seed gives the same video',
    flag: '--seed <n>',
  },
  negativePrompt: {
    kind: oneOrEach(anyText),
    otherwise: "`''`",
    group: video,
    says: 'things that the video must not show: one text for all prompts, or one for each',
    flag: '--negative-prompt <text>',
  },
  output: {
    kind: output,
    group: video,
    says: 'the file that torchreel writes while it decodes frames: a path, or an object { path } that may also have the options of a file',
    flag: '-o, --output <file>',
    flagSays:
      'the file to write: .mp4, .mov, .mkv, .webm, .gif, .webp, .apng, .rgb or frame_%04d.png (default: torchreel.mp4)',
  },
  ffmpeg: {
    kind: filePath,
    otherwise: 'found automatically',
    group: video,
    says: 'the ffmpeg that reads the source video and writes the output',
    flag: '--ffmpeg <file>',
    see: ['where torchreel looks', 'libtorch-and-ffmpeg.md'],
  },
  steps: {
    kind: integer(1, maxSteps),
    otherwise: defaultByFamily(({ defaults }) => defaults.steps),
    group: denoising,
    says: 'number of denoising steps',
    flag: '--steps <n>',
  },
  guidanceScale: {
    kind: oneOrEach(number(0, 1000), maxSteps),
    otherwise:
      `the checkpoint's own value (shapes has 3); without such a value ${defaultByFamily(({ defaults }) => defaults.guidanceScale)}; ` +
      `with a source video ${defaultByFamily(({ defaults }) => defaults.videoGuidanceScale)}`,
    group: denoising,
    says: 'how closely the video follows the prompt: one number, or one for each step; 1 or less turns guidance off',
    flag: '--guidance-scale <x[,x...]>',
  },
  scheduler: {
    kind: scheduler,
    otherwise: "the pipeline's scheduler: DPM-Solver++, or the checkpoint's class with Wan",
    group: denoising,
    says: "a scheduler or its name; the name checkpoint means the checkpoint's own class",
    flag: '--scheduler <name>',
    flagSays: `checkpoint, or ${schedulerNames.join(', ')}`,
    see: ['schedulers', 'schedulers.md'],
  },
  timesteps: {
    kind: list(finite, 1, maxSteps),
    otherwise: 'those of the scheduler',
    group: denoising,
    kept: 'value',
    says: 'your own timesteps, one for each step, from high to low',
    flag: '--timesteps <t,...>',
  },
  sigmas: {
    kind: list(finite, 2, maxSteps + 1),
    otherwise: 'those of the scheduler',
    group: denoising,
    kept: 'value',
    says: 'your own noise levels, one for each step and one more for the end',
    flag: '--sigmas <s,...>',
  },
  eta: {
    kind: number(0, 1),
    default: 0,
    group: denoising,
    kept: 'value',
    says: 'amount of noise that DDIM and TCD add in each step',
    flag: '--eta <x>',
  },
  clipSkip: {
    kind: integer(0, 1000),
    default: 0,
    group: denoising,
    kept: 'value',
    says: 'number of layers to skip at the end of the text encoder',
    flag: '--clip-skip <n>',
  },
  freeU: {
    kind: freeU,
    otherwise: 'off',
    group: denoising,
    kept: 'value',
    says: "FreeU's four factors, such as 0.9, 0.2, 1.2, 1.4",
    flag: '--free-u <s1,s2,b1,b2>',
  },
  allowNonFinite: {
    kind: flag,
    default: false,
    group: denoising,
    says: 'if a network gives NaN or infinity, continue and make the affected pixels black, instead of failing with ERR_NUMERIC',
  },
  video: {
    kind: videoInput,
    group: source,
    kept: 'name',
    says: 'the source video: a file, a Video or frames; the new video has the same number of frames, size and frame rate, unless you set others',
    flag: '--video <file>',
    flagSays:
      'the file of the source video; the new video has the same number of frames, size and frame rate, unless you set others',
    see: ['video to video', 'video-to-video.md'],
  },
  strength: {
    kind: number(1 / maxSteps, 1),
    otherwise: defaultByFamily(({ defaults }) => defaults.strength),
    group: source,
    says: 'how much of the source video may change; must be at least 1 / steps',
    flag: '--strength <x>',
  },
  latents: {
    kind: tensor([null, null, null, null, null]),
    otherwise: 'noise',
    group: source,
    kept: 'name',
    says: 'latents { data, shape } from which the video starts, instead of noise',
  },
  promptEmbeds: {
    kind: tensor([null, null, null]),
    group: source,
    kept: 'name',
    says: 'embeddings that pipeline.encodePrompt made, instead of prompts',
  },
  negativePromptEmbeds: {
    kind: tensor([null, null, null]),
    group: source,
    kept: 'name',
    says: 'embeddings instead of negative prompts; they have the same shape as promptEmbeds',
  },
  featureCache: {
    kind: integer(1, 1000),
    default: 1,
    group: savings,
    kept: 'value',
    says: 'compute the inner blocks of the network only on every n-th call: faster, but the video changes slightly',
    flag: '--feature-cache <n>',
    see: ['measurements', 'performance.md#approximate-savings'],
  },
  guidanceInterval: {
    kind: interval,
    otherwise: '`[0, 1]`',
    group: savings,
    kept: 'value',
    says: 'use guidance only between these fractions of the steps, such as 0.2 and 0.8: faster, but the video changes',
    flag: '--guidance-interval <from,to>',
  },
  vaeTiling: {
    kind: vaeTiling,
    default: false,
    otherwise: 'false; with true, tiles of 512 pixels (with Wan, 256) that overlap by 0.25',
    group: savings,
    kept: 'value',
    says: 'encode and decode large frames in tiles, to save memory',
    flag: '--vae-tiling [pixels[:overlap]]',
  },
  window: {
    kind: window,
    otherwise: 'all frames',
    unit: 'frames',
    group: savings,
    kept: 'value',
    says: 'for long videos: the number of frames that the network processes at a time; windows overlap and are blended',
    flag: '--window <frames[:overlap]>',
  },
  signal: {
    kind: abortSignal,
    group: progress,
    says: 'aborts the call within a step; the call then rejects with signal.reason',
  },
  onProgress: {
    kind: callback<OnProgress>(),
    group: progress,
    says: 'called with { stage, step, steps, elapsedMs, etaMs }',
  },
  onPreview: {
    kind: callback<NonNullable<GenerateOptions['onPreview']>>(),
    group: progress,
    says: 'called with small preview frames; they are made from the latents without the VAE',
  },
  previewEvery: {
    kind: integer(1, 1000),
    default: 5,
    group: progress,
    says: 'number of network calls between two previews',
  },
  returnLatents: {
    kind: flag,
    default: false,
    group: progress,
    says: 'also return video.latents, { data, shape }',
  },
} as const satisfies TableOf<GenerateOptions>)
