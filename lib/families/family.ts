import type { Scheduler } from '../schedulers/index.js'
import type { Tokenizer } from '../text/tokenizer.js'

/** The part that a network has in a call. */
export type Role = 'textEncoder' | 'denoiser' | 'vae'

/** One network of a family, as its checkpoints store it. */
export interface Component {
  readonly role: Role
  /** The folder in the checkpoint, such as 'unet'. */
  readonly folder: string
  /** The weight files' name without shard number, variant and ending, such as 'diffusion_pytorch_model'. */
  readonly weights: string
}

/** The values of a call's options that the caller left out. */
export interface CallDefaults {
  readonly steps: number
  readonly frames: number
  readonly fps: number
  readonly guidanceScale: number
  /** The guidance scale of a call that starts from a video. */
  readonly videoGuidanceScale: number
}

/** A family of models: what all checkpoints of one architecture have in common. One folder and one line in families.ts. */
export interface Family {
  readonly name: string
  /** The values of `_class_name` in model_index.json. */
  readonly pipelineClasses: readonly string[]
  readonly components: readonly Component[]
  /** A checkpoint's files besides the weights, by path; true: required. */
  readonly plainFiles: Readonly<Record<string, boolean>>
  readonly defaults: CallDefaults
  /** Options of a call or a pipeline that this architecture cannot honour, and why, as the end of a sentence. */
  readonly refusedOptions: Readonly<Record<string, string>>
  /** Reads what a call needs to know from the configs, by folder, with the defaults of the graphs' architectures filled in. */
  readModel(configs: Readonly<Record<string, Record<string, unknown>>>): ModelFacts
  loadTokenizer(checkpointFolder: string, model: ModelFacts): Promise<Tokenizer>
  /** The scheduler of a new pipeline. */
  firstScheduler(config: Record<string, unknown>): Scheduler
}

/** What a call needs to know of a checkpoint. */
export interface ModelFacts {
  readonly family: Family
  readonly defaults: CallDefaults
  /** Height and width in pixels of a call that names none; undefined: the checkpoint does not say. */
  readonly size: { readonly height: number; readonly width: number } | undefined
  /** Width and height are multiples of this many pixels. */
  readonly sizeMultiple: number
  /** Frame counts are `frameMultiple` · k + 1; 1: any count. */
  readonly frameMultiple: number
  /** Pixels per latent in each direction. */
  readonly vaeScale: number
  /** The default side of a VAE tile, in pixels. */
  readonly tileSize: number
  /** C of the latents. */
  readonly latentChannels: number
  /** Decoding takes latents / scale + mean, encoding gives (latents − mean) · scale; C numbers each. */
  readonly latentScale: readonly number[]
  readonly latentMean: readonly number[]
  /** Layers of the text encoder. */
  readonly textLayers: number
  /** D of the embeddings. */
  readonly textSize: number
  /** Token positions of a prompt. */
  readonly positions: number
  /** Token ids are below this. */
  readonly vocabularySize: number
  /** How strongly each latent channel shows in red, green and blue, (C, 3); undefined: as grey. */
  readonly previewColours: readonly (readonly number[])[] | undefined
}
