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
  /** The number of denoising steps, 1 to 1000. @defaultValue 25, with Wan 50 */
  steps?: number | undefined
  /**
   * The number of frames. ModelScope models were trained on 16 frames. Wan needs a multiple of 4, plus 1.
   * @defaultValue 16, with Wan 81
   */
  frames?: number | undefined
  /** In pixels: a multiple of 8; with Wan, of 16. @defaultValue the model's own: often 256, with Wan 832 */
  width?: number | undefined
  /** In pixels: a multiple of 8; with Wan, of 16. @defaultValue the model's own: often 256, with Wan 480 */
  height?: number | undefined
  /**
   * How closely the video follows the prompt: one number, or one for each step. At 1 or less, the network reads only the
   * prompt, and there is no guidance.
   * @defaultValue the checkpoint's own value (`shapes` has 3); without such a value 9, with Wan 5; with a source video 15,
   * with Wan 5
   */
  guidanceScale?: number | readonly number[] | undefined
  /** Things that the video must not show: one text for all prompts, or one for each. @defaultValue '' */
  negativePrompt?: string | readonly string[] | undefined
  /** The seed of the random noise, 0 to 2^53 − 1: one for all prompts, or one for each. @defaultValue a random seed; `video.seed` says which */
  seed?: number | readonly number[] | undefined
  /** η of DDIM and γ of TCD, 0 to 1; other schedulers ignore it. @defaultValue 0 */
  eta?: number | undefined
  /** The number of layers to skip at the end of the text encoder, for the prompt only. Not for Wan. @defaultValue 0 */
  clipSkip?: number | undefined
  /** Frames per second of the video. @defaultValue 8, with Wan 16 */
  fps?: number | undefined
  /** A scheduler or the name of one, made from the checkpoint's config. @defaultValue the pipeline's scheduler: DPM-Solver++, or the checkpoint's class with Wan */
  scheduler?: Scheduler | string | undefined
  /**
   * The source video: a file that ffmpeg can read, a {@link Video}, or frames of rgb24. The call starts from this video
   * instead of noise, and changes it as the prompt says. By default, `frames`, `width`, `height` and `fps` are those of the
   * source video. If a side is not a multiple that the model can make, torchreel uses the nearest multiple. If the model
   * cannot make the number of frames, frames at the end are left out. `warnings` says so. torchreel resizes frames
   * bicubically. Several prompts start from the same video.
   */
  video?: VideoInput | undefined
  /**
   * The file that torchreel writes while it decodes frames: a path, or an object with the path and the options of
   * {@link Video.save}. The file is equal to the file that `save` writes, but it is complete earlier. A wrong path or option
   * causes an error before the first step. The call may have only one prompt. `video.file` is the path.
   */
  output?: string | URL | Output | undefined
  /** The ffmpeg that reads the source video and writes `output`. @defaultValue found automatically: see {@link findFfmpeg} */
  ffmpeg?: string | URL | undefined
  /**
   * How much of the source video may change, from 1 / steps to 1. Only the last `steps · strength` steps run.
   * @defaultValue 0.6, with Wan 0.8
   */
  strength?: number | undefined
  /** Your own timesteps, one for each step: see {@link ProgramOptions}. Their number sets `steps`. @defaultValue those of the scheduler */
  timesteps?: readonly number[] | undefined
  /** Your own σ, one for each step and one more for the end: see {@link ProgramOptions}. `steps` is one less than their number. @defaultValue those of the scheduler */
  sigmas?: readonly number[] | undefined
  /**
   * The VAE processes large frames in tiles of `tileSize` pixels. Neighbouring tiles overlap by the fraction `overlap` of a
   * tile (0 to 0.5) and are blended there. Large frames need less memory, and change slightly. With and without tiles, the VAE
   * processes one frame at a time, and Wan's VAE processes four. With tiles, Wan's frames come only when all are decoded.
   * @defaultValue false; with true, tiles of 512 pixels (with Wan, 256) that overlap by 0.25
   */
  vaeTiling?:
    | boolean
    | { readonly tileSize?: number | undefined; readonly overlap?: number | undefined }
    | undefined
  /** The latents from which the video starts, instead of noise: (B, C, F, height / 8, width / 8), of unit variance. For Wan, F is (frames + 3) / 4. @defaultValue noise */
  latents?: Tensor | undefined
  /** Embeddings instead of prompts: (B, L, D), as {@link TextToVideoPipeline.encodePrompt} returns them. */
  promptEmbeds?: Tensor | undefined
  /** Embeddings instead of negative prompts. They have the same shape as `promptEmbeds`. */
  negativePromptEmbeds?: Tensor | undefined
  /** FreeU's four factors, 0 to 10. Not for Wan. @defaultValue off */
  freeU?: FreeU | undefined
  /**
   * For videos that are longer than the videos of the training: the network processes this many frames (a window) at a time.
   * Windows overlap by `overlap` frames (by default half a window) and are blended there. Not for Wan. @defaultValue all frames
   */
  window?: number | { readonly frames: number; readonly overlap?: number | undefined } | undefined
  /**
   * A number n, 1 to 1000. torchreel computes all blocks only in every n-th call of the network. In the other calls, it
   * computes only the outermost blocks and reuses the output of the inner blocks (DeepCache, Ma et al. 2023,
   * https://arxiv.org/abs/2312.00858). This is faster, but changes the video slightly: docs/performance.md has measurements.
   * A second-order scheduler calls the network twice per step. The first call after guidance was turned on or off computes
   * all blocks. Not for Wan. @defaultValue 1: every call computes all blocks
   */
  featureCache?: number | undefined
  /**
   * Use guidance only in the steps between these fractions of all steps, such as [0.2, 0.8] (Kynkäänniemi et al. 2024,
   * https://arxiv.org/abs/2404.07724). The middle of a step decides whether the step is between them. In the other steps, the
   * network reads only the prompt, which is half the work. This is faster, but changes the video.
   * @defaultValue [0, 1]: in all steps
   */
  guidanceInterval?: readonly [from: number, to: number] | undefined
  /** Aborts the call within a step. The call then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
  /** Called while the call runs. If it throws an error, the call rejects with this error. */
  onProgress?: OnProgress | undefined
  /** Called with small preview frames, which are made from the latents without the VAE. If it throws an error, the call rejects with it. */
  onPreview?: ((preview: Preview) => void | Promise<void>) | undefined
  /** The number of network calls between two previews. @defaultValue 5 */
  previewEvery?: number | undefined
  /**
   * If the denoiser or the VAE gives NaN or infinity, continue and make the affected pixels black, instead of failing with
   * `ERR_NUMERIC`.
   * @defaultValue false
   */
  allowNonFinite?: boolean | undefined
  /** Also return the denoised latents, as `video.latents`. @defaultValue false */
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
