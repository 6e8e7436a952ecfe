// The types of the addon's functions. native/addon/ reads and makes these objects.
import type { Role } from '../families/family.js'

/** The files of one network. */
export interface NetworkFiles {
  /** A TorchScript archive without weights. */
  graph: string
  /** Safetensors files. */
  weights: string[]
  /** Weights that stay float32 in every dtype. */
  float32: string[]
}

/** The threads of an operation on the CPU. */
export interface NativeThreads {
  /** Of an operation of libtorch. */
  threads: number
  /** How many threads share the work of torchreel's own operators in small pieces; 0: `threads` in equal parts. */
  team: number
  /** Whether the team's other threads stay away from the processor of the pipeline's thread. */
  apart: boolean
}

/** The denoiser's step as machine code for one shape. */
export interface NativeCompiledDenoiser {
  /** A shared library. */
  library: Uint8Array
  /** JSON: the operators that the library calls by name. */
  operators: string | undefined
  /** Of the sample: 1, C, F, h, w. */
  shape: number[]
  /** Prompts of a call: 2 with guidance, 1 without. */
  texts: number
  /** Tokens of a prompt. */
  tokens: number
}

export interface NativePipelineOptions {
  /** The name of a family of models that the core knows. */
  family: string
  networks: Record<Role, NetworkFiles>
  /** Runs the denoiser's step instead of its graph. */
  compiledDenoiser: NativeCompiledDenoiser | undefined
  device: string
  dtype: string
  offload: string
  /** Decoding takes latents / scale + mean of each channel, encoding gives (latents − mean) · scale; C numbers each. */
  latentScale: number[]
  latentMean: number[]
  threads: number
  /** Record a step of the denoiser as a graph of the device and repeat it. */
  captureGraph: boolean
  /** Bytes of a safetensors file's header. */
  maxHeader: number
}

/** P prompts: tokens (P, L) and how many of each are no padding, or embeddings (P, L, size). */
export type NativeText =
  | { tokens: Int32Array; lengths: Int32Array; clipSkip: number }
  | { embeddings: Float32Array; size: number }

/** One job: B videos of F frames, made of f latent frames. */
export interface NativeRequest {
  videos: number
  prompts: NativeText
  /** Undefined: no guidance. */
  negativePrompts: NativeText | undefined
  frames: number
  latentFrames: number
  latentHeight: number
  latentWidth: number
  /** The code of a DenoisingProgram. */
  program: Float64Array
  /** One scale per CALL of the program. */
  guidance: Float64Array
  /** One for all videos, or one per video. */
  seeds: number[]
  /** (B, C, f, h, w) to start from instead of noise. */
  latents: Float32Array | undefined
  /** s1, s2, b1, b2; undefined: off. */
  freeU: Float64Array | undefined
  /** F frames of rgb24 to start from instead of noise. */
  video: { data: Uint8Array; height: number; width: number } | undefined
  /** Latent frames that the denoiser sees at a time; 0: all. */
  window: number
  windowOverlap: number
  /** Of so many calls of the denoiser the first computes all blocks, the others only the outermost; 1: every call computes all. */
  featureCache: number
  /** Report the sample after every so many calls; 0: only at the end. */
  latentsEvery: number
  /** The side of the VAE's tiles in latents; 0: frames in one piece. */
  tile: number
  tileOverlap: number
  /** NaN and infinity do not end the job. */
  allowNonFinite: boolean
}

/** Bytes of one network. */
export interface NativeNetworkMemory {
  mapped: number
  copied: number
  peakCopied: number
  pinned: number
  placed: boolean
}

export interface NativeMemory {
  textEncoder: NativeNetworkMemory
  denoiser: NativeNetworkMemory
  vae: NativeNetworkMemory
  /** By libtorch on the device; -1 on the CPU. */
  allocated: number
  reserved: number
  /** Bytes outside of V8's heap that V8 knows of, for all objects. */
  external: number
}

/** All changes that adapters make to a network. The tensors are in safetensors files. */
export interface NativeAdaptation {
  /** weight += scale · alpha / r · up · down, without alpha it is r; weight += scale · up where there is no down. */
  updates: {
    weight: string
    file: string
    up: string
    down: string | undefined
    alpha: string | undefined
    scale: number
  }[]
  /** Rows for the end of a table. */
  rows: { weight: string; file: string; tensor: string }[]
}

export type Stage = 'encode' | 'denoise' | 'decode'

export type NativeEvent =
  | { type: 'progress'; stage: Stage; step: number; steps: number }
  | { type: 'latents'; step: number; steps: number; data: Float32Array; shape: number[] }
  | { type: 'warning'; message: string }
  | { type: 'embeddings'; data: Float32Array; shape: number[] }
  | { type: 'frames'; first: number; count: number; width: number; height: number; data: Buffer }

export type Listener = (event: NativeEvent) => void | Promise<void>

declare const handle: unique symbol
type Handle<Name> = { readonly [handle]: Name }
export type PipelineHandle = Handle<'pipeline'>
export type GeneratorHandle = Handle<'generator'>
export type NativeModel = (input: Float32Array, timestep: number, call: number) => Float32Array

/** The addon's functions. */
export interface Addon {
  load(libraries: string[], core: string): string
  leaveAtExit(): void
  checkDevice(device: string): void
  /** Floating-point operations a second of large products on the CPU. */
  productRate(dtype: string): number
  createPipeline(): PipelineHandle
  openPipeline(
    pipeline: PipelineHandle,
    job: number,
    options: NativePipelineOptions,
    listener: (event: NativeEvent) => void,
  ): Promise<void>
  generate(
    pipeline: PipelineHandle,
    job: number,
    request: NativeRequest,
    listener: (event: NativeEvent) => void,
  ): Promise<void>
  encode(
    pipeline: PipelineHandle,
    job: number,
    prompts: number,
    text: NativeText,
    listener: (event: NativeEvent) => void,
  ): Promise<void>
  memory(pipeline: PipelineHandle): NativeMemory
  adapt(
    pipeline: PipelineHandle,
    job: number,
    textEncoder: NativeAdaptation,
    denoiser: NativeAdaptation,
  ): Promise<void>
  cancel(pipeline: PipelineHandle, job: number): void
  /** How many threads an operation on the CPU uses, from the next step of the running job on. */
  setThreads(pipeline: PipelineHandle, threads: NativeThreads): void
  closePipeline(pipeline: PipelineHandle): Promise<void>
  createGenerator(seed: number): GeneratorHandle
  randn(generator: GeneratorHandle, shape: readonly number[]): Float32Array
  runProgram(
    code: Float64Array,
    sample: Float32Array,
    shape: readonly number[],
    model: NativeModel,
    generator: GeneratorHandle | undefined,
    calls: number,
  ): Float32Array
}
