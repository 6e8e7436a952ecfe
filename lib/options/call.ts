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
  /** The number of denoising steps, 1 to 1000. @defaultValue 25 (Wan models: 50) */
  steps?: number | undefined
  /**
   * The number of frames. ModelScope models were trained on 16 frames. Wan needs 4 · n + 1 frames, such as 17 or 81.
   * @defaultValue 16 (Wan models: 81)
   */
  frames?: number | undefined
  /** In pixels: a multiple of 8; with Wan, of 16. @defaultValue the model's own: often 256, with Wan 832 */
  width?: number | undefined
  /** In pixels: a multiple of 8; with Wan, of 16. @defaultValue the model's own: often 256, with Wan 480 */
  height?: number | undefined
  /**
   * How closely the video follows the prompt: one number, or one for each step. At 1 or less, the network reads only the
   * prompt, and there is no guidance.
   * @defaultValue the value in the checkpoint, such as 3 for `shapes`; if the checkpoint has no value, 9 (Wan models: 5), or
   * with a source video 15 (Wan models: 5)
   */
  guidanceScale?: number | readonly number[] | undefined
  /** Things that the video must not show: one text for all prompts, or one for each. @defaultValue '' */
  negativePrompt?: string | readonly string[] | undefined
  /** The seed of the random noise, 0 to 2^53 − 1: one for all prompts, or one for each. @defaultValue a random number; `video.seed` contains it */
  seed?: number | readonly number[] | undefined
  /** η of DDIM and γ of TCD, 0 to 1; other schedulers ignore it. @defaultValue 0 */
  eta?: number | undefined
  /** The number of layers to skip at the end of the text encoder, for the prompt only. Not for Wan. @defaultValue 0 */
  clipSkip?: number | undefined
  /** Frames per second of the video. @defaultValue 8 (Wan models: 16) */
  fps?: number | undefined
  /** A scheduler or the name of one, made from the checkpoint's config. @defaultValue the pipeline's scheduler, which is DPM-Solver++ if you did not set another (Wan models: the checkpoint's own) */
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
   * @defaultValue 0.6 (Wan models: 0.8)
   */
  strength?: number | undefined
  /** Your own timesteps, one for each step: see {@link ProgramOptions}. Their number sets `steps`. @defaultValue the scheduler chooses them */
  timesteps?: readonly number[] | undefined
  /** Your own σ, one for each step and one more for the end: see {@link ProgramOptions}. `steps` is one less than their number. @defaultValue the scheduler chooses them */
  sigmas?: readonly number[] | undefined
  /**
   * The VAE processes large frames in tiles of `tileSize` pixels. Neighbouring tiles overlap by the fraction `overlap` of a
   * tile (0 to 0.5) and are blended there. Large frames need less memory, and change slightly. With and without tiles, the VAE
   * processes one frame at a time, and Wan's VAE processes four. With tiles, Wan's frames come only when all are decoded.
   * @defaultValue false; with true, tiles of 512 pixels (Wan models: 256) that overlap by 0.25 of a tile
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
    says: 'number of frames; Wan models need 4 · n + 1 frames, such as 17 or 81',
    flag: '--frames <n>',
  },
  width: {
    kind: side,
    otherwise: "the model's own",
    unit: 'pixels',
    group: video,
    says: 'width, a multiple of 8; Wan models need a multiple of 16',
    flag: '--width <pixels>',
  },
  height: {
    kind: side,
    otherwise: "the model's own",
    unit: 'pixels',
    group: video,
    says: 'height, a multiple of 8; Wan models need a multiple of 16',
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
    otherwise: 'a random number; `video.seed` contains it',
    group: video,
    says: 'the seed of the random noise; the same seed gives the same video; for several prompts, give one seed or a list with one seed for each prompt',
    flag: '--seed <n>',
  },
  negativePrompt: {
    kind: oneOrEach(anyText),
    otherwise: "`''`",
    group: video,
    says: 'things that the video must not show; for several prompts, give one text or a list with one text for each prompt',
    flag: '--negative-prompt <text>',
  },
  output: {
    kind: output,
    group: video,
    says: 'the video file: a path, or an object with path and the options of the file; torchreel writes the file while it decodes frames',
    flag: '-o, --output <file>',
    flagSays:
      'the file to write: .mp4, .mov, .mkv, .webm, .gif, .webp, .apng, .rgb or frame_%04d.png (default: torchreel.mp4)',
  },
  ffmpeg: {
    kind: filePath,
    otherwise: 'found automatically',
    group: video,
    says: 'the path of the ffmpeg that reads the source video and writes the output',
    flag: '--ffmpeg <file>',
    see: ['where torchreel looks', 'libtorch-and-ffmpeg.md'],
  },
  steps: {
    kind: integer(1, maxSteps),
    otherwise: defaultByFamily(({ defaults }) => defaults.steps),
    group: denoising,
    says: 'number of denoising steps; more steps take longer',
    flag: '--steps <n>',
  },
  guidanceScale: {
    kind: oneOrEach(number(0, 1000), maxSteps),
    otherwise:
      `the value in the checkpoint, such as 3 for shapes; if the checkpoint has no value, ${defaultByFamily(({ defaults }) => defaults.guidanceScale)}, ` +
      `or with a source video ${defaultByFamily(({ defaults }) => defaults.videoGuidanceScale)}`,
    group: denoising,
    says: 'how closely the video follows the prompt; 1 or less turns guidance off; give one number or a list with one number for each step',
    flag: '--guidance-scale <x[,x...]>',
  },
  scheduler: {
    kind: scheduler,
    otherwise:
      "the pipeline's scheduler, which is DPM-Solver++ if you did not set another (Wan models: the checkpoint's own)",
    group: denoising,
    says: "the method that removes the noise: a scheduler or its name; the name checkpoint means the scheduler that the checkpoint's files name",
    flag: '--scheduler <name>',
    flagSays: `checkpoint, or ${schedulerNames.join(', ')}`,
    see: ['schedulers', 'schedulers.md'],
  },
  timesteps: {
    kind: list(finite, 1, maxSteps),
    otherwise: 'the scheduler chooses them',
    group: denoising,
    kept: 'value',
    says: 'your own timesteps, one for each step, from high to low',
    flag: '--timesteps <t,...>',
  },
  sigmas: {
    kind: list(finite, 2, maxSteps + 1),
    otherwise: 'the scheduler chooses them',
    group: denoising,
    kept: 'value',
    says: 'your own noise levels, from high to low: one for each step, and one for the end',
    flag: '--sigmas <s,...>',
  },
  eta: {
    kind: number(0, 1),
    default: 0,
    group: denoising,
    kept: 'value',
    says: 'how much noise the schedulers DDIM and TCD add in each step; other schedulers ignore this option',
    flag: '--eta <x>',
  },
  clipSkip: {
    kind: integer(0, 1000),
    default: 0,
    group: denoising,
    kept: 'value',
    says: 'how many of the last layers of the text encoder torchreel skips',
    flag: '--clip-skip <n>',
  },
  freeU: {
    kind: freeU,
    otherwise: 'off',
    group: denoising,
    kept: 'value',
    says: 'the four factors of the method FreeU, such as s1 0.9, s2 0.2, b1 1.2, b2 1.4',
    flag: '--free-u <s1,s2,b1,b2>',
  },
  allowNonFinite: {
    kind: flag,
    default: false,
    group: denoising,
    says: 'what happens if a network computes NaN or infinity: with true, the affected pixels become black; with false, the call fails with ERR_NUMERIC',
  },
  video: {
    kind: videoInput,
    group: source,
    kept: 'name',
    says: 'the source video, which the call changes: a file, a Video or frames; the new video has the same length, size and frame rate, unless you set other values',
    flag: '--video <file>',
    flagSays:
      'the file of the source video, which the call changes; the new video has the same length, size and frame rate, unless you set other values',
    see: ['video to video', 'video-to-video.md'],
  },
  strength: {
    kind: number(1 / maxSteps, 1),
    otherwise: defaultByFamily(({ defaults }) => defaults.strength),
    group: source,
    says: 'how much of the source video may change: from 1 / steps (little) to 1 (everything)',
    flag: '--strength <x>',
  },
  latents: {
    kind: tensor([null, null, null, null, null]),
    otherwise: 'noise',
    group: source,
    kept: 'name',
    says: 'the latents from which the call starts, as { data, shape }',
  },
  promptEmbeds: {
    kind: tensor([null, null, null]),
    group: source,
    kept: 'name',
    says: 'embeddings that pipeline.encodePrompt made; they take the place of the prompts',
  },
  negativePromptEmbeds: {
    kind: tensor([null, null, null]),
    group: source,
    kept: 'name',
    says: 'embeddings that take the place of the negative prompts; they have the same shape as promptEmbeds',
  },
  featureCache: {
    kind: integer(1, 1000),
    default: 1,
    group: savings,
    kept: 'value',
    says: 'faster, but the video changes slightly: with n, torchreel computes the inner blocks of the network only in every n-th call of the network',
    flag: '--feature-cache <n>',
    see: ['measurements', 'performance.md#approximate-savings'],
  },
  guidanceInterval: {
    kind: interval,
    otherwise: '`[0, 1]`',
    group: savings,
    kept: 'value',
    says: 'faster, but the video changes: torchreel uses guidance only in a part of the steps; for example, [0, 0.6] means the first 60% of the steps',
    flag: '--guidance-interval <from,to>',
  },
  vaeTiling: {
    kind: vaeTiling,
    default: false,
    otherwise: 'false; with true, tiles of 512 pixels (Wan models: 256) that overlap by 0.25 of a tile',
    group: savings,
    kept: 'value',
    says: 'save memory: torchreel encodes and decodes large frames in tiles; the frames change slightly',
    flag: '--vae-tiling [pixels[:overlap]]',
  },
  window: {
    kind: window,
    otherwise: 'all frames',
    group: savings,
    kept: 'value',
    says: 'for long videos: the network processes only this number of frames at a time (a window); neighbouring windows overlap and are blended',
    flag: '--window <frames[:overlap]>',
  },
  signal: {
    kind: abortSignal,
    group: progress,
    says: 'cancels the call: it stops within one step and rejects with signal.reason',
  },
  onProgress: {
    kind: callback<OnProgress>(),
    group: progress,
    says: 'a function that torchreel calls with { stage, step, steps, elapsedMs, etaMs } while the call runs',
  },
  onPreview: {
    kind: callback<NonNullable<GenerateOptions['onPreview']>>(),
    group: progress,
    says: 'a function that torchreel calls with small preview frames while the call runs; the previews do not use the VAE',
  },
  previewEvery: {
    kind: integer(1, 1000),
    default: 5,
    group: progress,
    says: 'how often a preview is made: 5 means after every fifth call of the network',
  },
  returnLatents: {
    kind: flag,
    default: false,
    group: progress,
    says: 'also return the denoised latents, as video.latents with { data, shape }',
  },
} as const satisfies TableOf<GenerateOptions>)
