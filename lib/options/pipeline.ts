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
   * The number type of the computation. 'auto' is 'float32' on the CPU, and 'float16' on CUDA (Wan models: 'bfloat16'). On a CPU
   * with AVX512-BF16 or AMX, 'bfloat16' is faster than 'float32' and halves the memory of the weights. `torchreel doctor` says
   * whether the CPU has one of them. If the CPU does not multiply a type fast, torchreel computes in float32 with rounded
   * weights and gives a warning. @defaultValue 'auto'
   */
  dtype?: 'auto' | 'float16' | 'bfloat16' | 'float32' | undefined
  /**
   * Another model, a folder or owner/name, from which the text encoder is taken. So several models can share one text
   * encoder. It must have the same architecture as the model's own text encoder. The model's own text encoder is then not
   * needed and not downloaded. @defaultValue the model's own
   */
  textEncoder?: string | URL | undefined
  /** The variant of the weight files: 'fp16' reads `*.fp16.safetensors`. @defaultValue the files without a variant; fp16 if the model has only fp16 files */
  variant?: string | undefined
  /**
   * Which weights are on the device at the same time. Fewer weights need less memory and more time. 'none': those of all
   * networks. 'model': those of the running network. 'sequential': for the denoiser, those of the running block and of the
   * next block, which are copied while the running block computes. All modes give the same video. The weights always stay
   * mapped from their files in host memory, so nothing is copied back.
   * @defaultValue 'none'
   */
  offload?: 'none' | 'model' | 'sequential' | undefined
  /**
   * Record a denoising step as a CUDA graph, and replay this graph in later steps. This helps on GPUs that finish kernels
   * faster than the host can launch them. The first step of each size runs normally. The second step is recorded. A recording
   * holds the memory of one step. With `offload: 'model'`, each call records again. You cannot combine this option with
   * `offload: 'sequential'` or `featureCache`.
   * @defaultValue false
   */
  captureGraph?: boolean | undefined
  /**
   * The file of a compiled denoiser. `models/export.py --compile` makes this file on a machine with the same kind of
   * processor or GPU. The file contains machine code for one step of one video, for one size, device and dtype, and for
   * guidance in all steps or in no step. Other calls are refused. The file is a program that runs with your rights, so use
   * only files that you made yourself. You cannot combine this option with `offload: 'sequential'`. Not for Wan.
   */
  compiledDenoiser?: string | URL | undefined
  /**
   * The number of threads of a CPU operation. `video.threads` says how many threads were used.
   * @defaultValue `OMP_NUM_THREADS`; without it, the number of processors that this process may use, or fewer for
   * operations of libtorch while other programs are busy
   */
  threads?: number | undefined
  /** The folder of libtorch. @defaultValue found automatically: `TORCHREEL_LIBTORCH`, else the libtorch that `torchreel setup` installed */
  libtorch?: string | URL | undefined
  /** Allow the TorchScript graphs in the folder `graphs/` of the model's folder. Graphs are programs. @defaultValue false */
  trustGraph?: boolean | undefined
  /**
   * Follow the links in the model's folder, wherever they lead.
   * @defaultValue false; torchreel then follows only links into a Hugging Face cache
   */
  trustLinks?: boolean | undefined
  /**
   * Before the weights are loaded, compare them with their sha256. It comes from `SHA256SUMS` in the model's folder or from
   * the Hugging Face cache. @defaultValue false, because downloaded files were already checked during the download
   */
  verify?: boolean | undefined
  /** Upper limits for calls and files. @defaultValue each limit has its own default: see {@link Limits} */
  limits?: Partial<Limits> | undefined
  /** Aborts the download, or the loading after the network that is being loaded. The call then rejects with `signal.reason`. */
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
    otherwise: 'the files without a variant; fp16 if the model has only fp16 files',
    group: model,
    says: 'which variant of the weight files torchreel reads, such as fp16',
    flag: '--variant <name>',
  },
  textEncoder: {
    kind: { ...filePath, expected: "a model's folder or its name on Hugging Face (owner/name)" },
    otherwise: "the model's own",
    group: model,
    says: 'a model whose text encoder torchreel uses instead: a folder or owner/name',
    flag: '--text-encoder <model>',
  },
  revision: {
    kind: text,
    otherwise: '`main`',
    group: model,
    says: 'which version of a model on Hugging Face: a branch, a tag or a commit',
    flag: '--revision <name>',
  },
  localFilesOnly: {
    kind: flag,
    otherwise: '`HF_HUB_OFFLINE`; if it is not set, false',
    group: model,
    says: 'use only models on this machine, and download nothing',
    flag: '--local-files-only',
  },
  cacheDir: {
    kind: filePath,
    otherwise: "`HF_HUB_CACHE`, else Hugging Face's default",
    group: model,
    says: 'the folder in which torchreel stores and finds downloaded models',
    flag: '--cache-dir <folder>',
  },
  token: {
    kind: token,
    otherwise: '`HF_TOKEN`, else the token that `hf auth login` stored',
    group: model,
    says: 'a Hugging Face token, for gated and private models; with false, no token is sent',
    flag: '--token <token>',
  },
  verify: {
    kind: flag,
    default: false,
    group: model,
    says: 'before loading, check that the sha256 of each weight file is the expected one',
    flag: '--verify',
  },
  trustGraph: {
    kind: flag,
    default: false,
    group: model,
    says: "run the programs (TorchScript graphs) that the model's folder has in graphs/; use this only for models that you trust",
    flag: '--trust-graph',
  },
  trustLinks: {
    kind: flag,
    default: false,
    otherwise: 'false; torchreel then follows only links into a Hugging Face cache',
    group: model,
    says: "follow all links in the model's folder, even to files outside this folder",
    flag: '--trust-links',
  },
  device: {
    kind: matching(/^(auto|cpu|cuda(:\d+)?)$/, "'auto', 'cpu', 'cuda' or 'cuda:N'"),
    default: 'auto',
    group: machine,
    says: 'the processor that computes: cpu, cuda, or cuda:N for one of several GPUs; auto is CUDA if there is a GPU, else the CPU',
    flag: '--device <name>',
  },
  dtype: {
    kind: choice(['auto', 'float16', 'bfloat16', 'float32']),
    default: 'auto',
    group: machine,
    says: `the number type of the computation: auto, float32, bfloat16 or float16; auto is float32 on the CPU; on CUDA, it is ${defaultByFamily(({ gpuDtype }) => gpuDtype)}`,
    flag: '--dtype <name>',
  },
  offload: {
    kind: choice(['none', 'model', 'sequential']),
    default: 'none',
    group: machine,
    says: 'saves GPU memory: model keeps only the weights of one network on the GPU, sequential only those of two blocks; none keeps all weights there',
    flag: '--offload <mode>',
    see: ['offload', 'gpus-and-memory.md#offload'],
  },
  captureGraph: {
    kind: flag,
    default: false,
    group: machine,
    says: 'start fewer kernels on a GPU: torchreel records one denoising step as a CUDA graph and replays it in later steps',
    flag: '--capture-graph',
  },
  compiledDenoiser: {
    kind: filePath,
    group: machine,
    says: 'the file of a denoiser that models/export.py --compile compiled for one video size; the file is a program, so use only files that you made',
    flag: '--compiled-denoiser <file>',
    see: ['a compiled denoiser', 'performance.md#a-compiled-denoiser'],
  },
  threads: {
    kind: integer(1, 1024),
    otherwise:
      '`OMP_NUM_THREADS`; without it, the number of processors that this process may use, or fewer for operations of libtorch while other programs are busy',
    group: machine,
    says: 'number of CPU threads for each operation',
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
    otherwise: 'each limit has its own default',
    group: machine,
    says: 'upper limits for calls and files, as the next table explains',
  },
  signal: {
    kind: abortSignal,
    group: progress,
    says: 'cancels the download or the loading of the model; the call then rejects with signal.reason',
  },
  onProgress: {
    kind: callback<OnProgress>(),
    group: progress,
    says: 'a function that torchreel calls with { stage, step, steps, elapsedMs, etaMs } during a download; step and steps count bytes',
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
