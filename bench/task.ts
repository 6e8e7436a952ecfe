/** The input and the output of a measured process. bench/peer.py uses the same format. */

/** The videos to make: one cold, then `runs` more. */
export interface Task {
  readonly model: string
  readonly prompt: string
  readonly steps: number
  readonly frames: number
  /** Pixels; undefined: the model's own. */
  readonly width?: number | undefined
  readonly height?: number | undefined
  readonly seed: number
  readonly guidanceScale: number
  readonly runs: number
  readonly device: string
  readonly dtype: 'float32' | 'float16' | 'bfloat16'
  readonly offload: 'none' | 'model' | 'sequential'
  readonly captureGraph?: boolean | undefined
  /** The file of a compiled denoiser. */
  readonly compiledDenoiser?: string | undefined
  readonly threads?: number | undefined
  readonly libtorch?: string | undefined
  readonly trustGraph: boolean
  /** The mp4 to write. */
  readonly output: string
  /** The file for the first video's frames as rgb24. Not part of the times. */
  readonly frameFile?: string | undefined
  /** When the process was started, in milliseconds since 1970. */
  readonly started: number
}

/** One video. */
export interface MeasuredVideo {
  /** From prompts to embeddings. */
  readonly encodeMs: number
  /** One per denoising step. */
  readonly steps: readonly number[]
  /** All steps: from the embeddings to the last latents. */
  readonly loopMs: number
  /** From latents to frames in host memory. */
  readonly decodeMs: number
  /** From frames to a file. For torchreel, which writes while it decodes: the time after the last frame. */
  readonly writeMs: number
  /** From the start of the process to the file. */
  readonly sinceStartMs: number
  /** Page faults during this video. */
  readonly pageFaults: number
  /** The event loop's delay in milliseconds; null in Python. */
  readonly eventLoopDelayMs: { readonly p50: number; readonly p99: number; readonly max: number } | null
}

export interface Measured {
  /** From the start of the process to the program's first line. */
  readonly startMs: number
  readonly importMs: number
  readonly loadMs: number
  /** From the start of the process to the end of the first denoising step. */
  readonly firstStepMs: number
  readonly videos: readonly MeasuredVideo[]
  /** Peak resident host memory up to the first file. Linux includes the mapped pages of the weights. */
  readonly peakBytes: number
  /** Memory of libtorch's allocator on the device at the end; null on the CPU. */
  readonly deviceBytes: number | null
  /** Processor time of the process. */
  readonly processorMs: number
  readonly versions: string
  readonly device: string
  readonly dtype: string
}
