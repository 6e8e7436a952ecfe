import {
  abortSignal,
  callback,
  choice,
  filePath,
  flag,
  integer,
  type JsonSchema,
  type Kind,
  matching,
  text,
} from '../checks/kinds.js'
import { checkOptions, type TableOf } from '../checks/options.js'
import { conflict } from '../errors.js'
import { defaultByFamily, withRefusals } from '../families/option_texts.js'
import type { HubOptions } from '../hub/hub.js'
import type { OnProgress } from '../progress.js'
import { defaultLimits, type Limits, limits } from './limits.js'

/** Where a checkpoint comes from and how it is loaded. */
export interface PipelineOptions
  extends Pick<HubOptions, 'revision' | 'cacheDir' | 'token' | 'localFilesOnly'> {
  /** 'auto', 'cpu', 'cuda' or 'cuda:N'. @defaultValue 'auto': CUDA if there is a GPU, else the CPU */
  device?: string | undefined
  /**
   * The number type that the networks compute in. 'auto': 'float32' on the CPU; on CUDA 'float16', with Wan 'bfloat16'. On a
   * CPU with AVX512-BF16 or AMX, 'bfloat16' is faster than 'float32' and halves the memory of the weights (`torchreel doctor`
   * tells). A type that the CPU does not multiply fast is computed in float32 with rounded weights, which a warning says.
   * @defaultValue 'auto'
   */
  dtype?: 'auto' | 'float16' | 'bfloat16' | 'float32' | undefined
  /**
   * Use the text encoder of another model, a folder or owner/name, so that several models share one. It must have the
   * architecture of this model's own, which then is neither needed nor downloaded. @defaultValue the model's own
   */
  textEncoder?: string | URL | undefined
  /** Which files: 'fp16' reads `*.fp16.safetensors`. @defaultValue none; fp16 if the model has nothing else */
  variant?: string | undefined
  /**
   * Keep weights off the device, for less memory and more time. 'model': only the running network is on it.
   * 'sequential': of the denoiser only the running block and the next, whose weights are copied meanwhile. All modes give
   * the same video: weights also stay in host memory, mapped from their files, so nothing is copied back.
   * @defaultValue 'none'
   */
  offload?: 'none' | 'model' | 'sequential' | undefined
  /**
   * Record a step of the denoiser as a CUDA graph and replay it: for GPUs that finish kernels faster than the host can
   * launch them. The first step of each size runs normally, the second is recorded. A recording holds the memory of a step.
   * With `offload: 'model'` each call records again. Cannot be combined with `offload: 'sequential'` or `featureCache`.
   * @defaultValue false
   */
  captureGraph?: boolean | undefined
  /**
   * A package of the denoiser's step as machine code, which `models/export.py --compile` wrote on such a machine: for one
   * size, device and dtype, of one video, with guidance in all steps or in none. Other calls are refused. It is a program
   * and runs with your rights: use only packages that you made yourself. Cannot be combined with `offload: 'sequential'`. Not
   * for Wan.
   */
  compiledDenoiser?: string | URL | undefined
  /**
   * Threads that a CPU operation uses. `video.threads` says how many they were.
   * @defaultValue `OMP_NUM_THREADS`, else as many as this process may keep busy; fewer beside busy programs
   */
  threads?: number | undefined
  /** The folder of libtorch. @defaultValue found automatically: `TORCHREEL_LIBTORCH`, else what `torchreel setup` got */
  libtorch?: string | URL | undefined
  /** Run the TorchScript graphs in the checkpoint's `graphs/`; they are programs. @defaultValue false */
  trustGraph?: boolean | undefined
  /**
   * Read the files that links in the model's folder lead to, wherever they are.
   * @defaultValue links into a Hugging Face cache only
   */
  trustLinks?: boolean | undefined
  /**
   * Before loading, compare the weights with their sha256 from `SHA256SUMS` in the model's folder or from Hugging Face's
   * cache. @defaultValue false: downloads were compared when they arrived
   */
  verify?: boolean | undefined
  /** Upper bounds of calls and files. @defaultValue each its own: see {@link Limits} */
  limits?: Partial<Limits> | undefined
  /** Aborts a download, and loading after the network that is being loaded; the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
  /** Called while a model is downloaded. */
  onProgress?: OnProgress | undefined
}

const token: Kind<string | false> = {
  expected: 'a token, or false',
  schema: { anyOf: [text.schema as JsonSchema, { const: false }] },
  read: (value) => (value === false ? false : text.read(value, 'token')),
}

const model = 'The model'
const machine = 'The machine'
const progress = 'Progress'

/** The options of a pipeline. */
export const pipelineOptions = withRefusals({
  variant: {
    kind: matching(/^\w+$/, "a word such as 'fp16'"),
    otherwise: 'none; fp16 if the model has nothing else',
    group: model,
    says: 'the variant of the weight files, such as fp16',
    flag: '--variant <name>',
  },
  textEncoder: {
    kind: { ...filePath, expected: "a model's folder or its name on Hugging Face (owner/name)" },
    otherwise: "the model's own",
    group: model,
    says: 'another model whose text encoder is used: a folder or owner/name',
    flag: '--text-encoder <model>',
  },
  revision: {
    kind: text,
    otherwise: '`main`',
    group: model,
    says: 'a branch, a tag or a commit of a model on Hugging Face',
    flag: '--revision <name>',
  },
  localFilesOnly: {
    kind: flag,
    otherwise: '`HF_HUB_OFFLINE`',
    group: model,
    says: 'do not download anything',
    flag: '--local-files-only',
  },
  cacheDir: {
    kind: filePath,
    otherwise: "`HF_HUB_CACHE`, else Hugging Face's default",
    group: model,
    says: 'the folder of the model cache',
    flag: '--cache-dir <folder>',
  },
  token: {
    kind: token,
    otherwise: '`HF_TOKEN`, else the token that `hf auth login` stored',
    group: model,
    says: 'a Hugging Face token, for gated and private models; false sends none',
    flag: '--token <token>',
  },
  verify: {
    kind: flag,
    default: false,
    group: model,
    says: 'compare the weights with their sha256 before loading them',
    flag: '--verify',
  },
  trustGraph: {
    kind: flag,
    default: false,
    group: model,
    says: "run the TorchScript graphs in the checkpoint's folder graphs/, which are programs",
    flag: '--trust-graph',
  },
  trustLinks: {
    kind: flag,
    default: false,
    otherwise: 'links into a Hugging Face cache only',
    group: model,
    says: "read the files that links in the model's folder lead to, wherever they are",
    flag: '--trust-links',
  },
  device: {
    kind: matching(/^(auto|cpu|cuda(:\d+)?)$/, "'auto', 'cpu', 'cuda' or 'cuda:N'"),
    default: 'auto',
    group: machine,
    says: 'where the networks compute: auto, cpu, cuda or cuda:N; auto is CUDA if there is a GPU',
    flag: '--device <name>',
  },
  dtype: {
    kind: choice(['auto', 'float16', 'bfloat16', 'float32']),
    default: 'auto',
    group: machine,
    says: `the number type that the networks compute in; auto is float32 on the CPU, on CUDA ${defaultByFamily(({ gpuDtype }) => gpuDtype)}`,
    flag: '--dtype <name>',
  },
  offload: {
    kind: choice(['none', 'model', 'sequential']),
    default: 'none',
    group: machine,
    says: 'weights to keep on the device: all (none), one network at a time (model), or two blocks at a time (sequential)',
    flag: '--offload <mode>',
    see: ['offload', 'gpus-and-memory.md#offload'],
  },
  captureGraph: {
    kind: flag,
    default: false,
    group: machine,
    says: 'record a denoising step as a CUDA graph and replay it',
    flag: '--capture-graph',
  },
  compiledDenoiser: {
    kind: filePath,
    group: machine,
    says: 'a denoiser that models/export.py --compile compiled for one size; the file is a program',
    flag: '--compiled-denoiser <file>',
    see: ['a compiled denoiser', 'performance.md#a-compiled-denoiser'],
  },
  threads: {
    kind: integer(1, 1024),
    otherwise: '`OMP_NUM_THREADS`, else as many as this process may keep busy; fewer beside busy programs',
    group: machine,
    says: 'CPU threads for each operation',
    flag: '--threads <n>',
  },
  libtorch: {
    kind: filePath,
    otherwise: 'found automatically',
    group: machine,
    says: 'the folder of libtorch',
    flag: '--libtorch <folder>',
    see: ['where torchreel looks', 'libtorch-and-ffmpeg.md'],
  },
  limits: {
    kind: limits,
    default: defaultLimits,
    otherwise: 'each its own',
    group: machine,
    says: 'upper limits for calls and files',
  },
  signal: {
    kind: abortSignal,
    group: progress,
    says: 'aborts a download or loading; the call rejects with signal.reason',
  },
  onProgress: {
    kind: callback<OnProgress>(),
    group: progress,
    says: 'called during a download with { stage, step, steps, elapsedMs, etaMs }',
  },
} as const satisfies TableOf<PipelineOptions>)

/** Checks the options of a pipeline. */
export function checkPipelineOptions(options: PipelineOptions) {
  const checked = checkOptions(options, pipelineOptions)
  const { offload, captureGraph, compiledDenoiser } = checked
  const sequential = "offload 'sequential'"
  if (captureGraph && offload === 'sequential') throw conflict('captureGraph', sequential, true)
  if (compiledDenoiser !== undefined && offload === 'sequential')
    throw conflict('compiledDenoiser', sequential, compiledDenoiser)
  return checked
}

export type CheckedPipelineOptions = ReturnType<typeof checkPipelineOptions>
