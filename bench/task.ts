/** What a measured process is told and what it prints. bench/peer.py speaks the same. */

/** Videos to make: the first cold, then `runs` more. */
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
  /** A package of the UNet's step. */
  readonly compiledDenoiser?: string | undefined
  readonly threads?: number | undefined
  readonly libtorch?: string | undefined
  readonly trustGraph: boolean
  /** The mp4 that is written. */
  readonly output: string
  /** Where the first video's frames go as rgb24, outside the times. */
  readonly frameFile?: string | undefined
  /** When the process was started, in milliseconds since 1970. */
  readonly started: number
}

/** One video. */
export interface MeasuredVideo {
  /** Prompts to embeddings. */
  readonly encodeMs: number
  /** One for each denoising step. */
  readonly steps: readonly number[]
  /** All steps, and what belongs to them: from the embeddings to the last latents. */
  readonly loopMs: number
  /** Latents to frames in host memory. */
  readonly decodeMs: number
  /** Frames to a file; of torchreel, which writes while it decodes, what is left of that after the last frame. */
  readonly writeMs: number
  /** From the start of the process to the file. */
  readonly sinceStartMs: number
  /** Pages that the system had to map meanwhile. */
  readonly pageFaults: number
  /** How late JavaScript ran, in milliseconds; null in Python. */
  readonly eventLoopDelayMs: { readonly p50: number; readonly p99: number; readonly max: number } | null
}

export interface Measured {
  /** Start of the process to the program's first line. */
  readonly startMs: number
  readonly importMs: number
  readonly loadMs: number
  /** From the start of the process to the end of the first denoising step. */
  readonly firstStepMs: number
  readonly videos: readonly MeasuredVideo[]
  /** The most host memory that was resident up to the first file. Linux counts the mapped pages of the weights in it. */
  readonly peakBytes: number
  /** What libtorch's allocator holds on the device at the end; null on the CPU. */
  readonly deviceBytes: number | null
  /** Processor time of the process. */
  readonly processorMs: number
  readonly versions: string
  readonly device: string
  readonly dtype: string
}
