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
  /**
   * The names that LoRA files have for a layer, by its name in this network: for 'mid_block.conv', 'unet.mid_block.conv'
   * and others. None: LoRAs do not change this layer; no function: they change nothing in this network.
   */
  readonly loraNames?: (layer: string) => readonly string[]
  /** Of the names of a LoRA file's tensors, those that the reference ignores. */
  readonly ignoredLoraTensors?: (tensors: readonly string[]) => readonly string[]
  /** The weight with one row per token, which textual inversions extend. Undefined: they cannot. */
  readonly tokenTable?: string
}

/** The values of a call's options that the caller left out. */
export interface CallDefaults {
  readonly steps: number
  readonly frames: number
  readonly fps: number
  readonly guidanceScale: number
  /** The guidance scale of a call that starts from a video. */
  readonly videoGuidanceScale: number
  /** The strength of a call that starts from a video. */
  readonly strength: number
}

/** How latents become colours without the VAE: red, green, blue = offset + Σ channel · factors, from −1 to 1. */
export interface PreviewColours {
  /** (C, 3) */
  readonly factors: readonly (readonly number[])[]
  /** (3) */
  readonly offset: readonly number[]
}

/** The content of a config file. */
export type Config = Readonly<Record<string, unknown>>

/** A family of models: what all checkpoints of one architecture have in common. One folder and one line in families.ts. */
export interface Family {
  /** The name of the family's folders, here, in native/core/ and in models/definitions/. */
  readonly name: string
  /** Its name in sentences, such as 'Wan'. */
  readonly title: string
  /** The values of `_class_name` in model_index.json. */
  readonly pipelineClasses: readonly string[]
  /** Names on Hugging Face of the model that a call uses that names none, if the cache holds it. */
  readonly publishedModels: readonly string[]
  readonly components: readonly Component[]
  /**
   * A checkpoint's files besides the weights, by path. true: required; false: optional; a path: this file, or the one at
   * that path in its place.
   */
  readonly plainFiles: Readonly<Record<string, boolean | string>>
  readonly defaults: CallDefaults
  /** The denoiser predicts a flow (flow matching), so that only schedulers for flows fit; else it is a diffusion model. */
  readonly predictsFlow: boolean
  /** The type that networks compute in on a GPU, if the caller does not choose one. */
  readonly gpuDtype: 'float16' | 'bfloat16'
  /**
   * Whether a CPU gives the same float32 numbers with any number of threads, but for rare sizes. Only then
   * libtorch's operations take fewer threads beside busy programs, so that the same seed gives the same video.
   */
  readonly sameWithAnyThreads: boolean
  /** Options of a call or a pipeline that this architecture cannot honour, and why, as the end of a sentence. */
  readonly refusedOptions: Readonly<Record<string, string>>
  /** Why a checkpoint of one of the pipeline classes cannot run, after its name: 'is a …'; by model_index.json. */
  readonly refuse?: (index: Config) => string | undefined
  /**
   * Reads what a call needs to know from a checkpoint's configs.
   *
   * @param index model_index.json
   * @param configs each network's config.json, by folder, with the defaults of its class filled in
   * @throws TorchreelError `ERR_MODEL_CORRUPT`, `ERR_MODEL_INCOMPATIBLE`
   */
  readModel(index: Config, configs: Readonly<Record<string, Config>>): ModelProperties
  loadTokenizer(checkpointFolder: string, model: ModelProperties): Promise<Tokenizer>
  /** The scheduler of a new pipeline, from scheduler_config.json. */
  firstScheduler(config: Config): Scheduler
}

/** What a call needs to know of a checkpoint. */
export interface ModelProperties {
  readonly family: Family
  readonly defaults: CallDefaults
  /** Height and width in pixels of a call that names none; undefined: the checkpoint does not say. */
  readonly size: { readonly height: number; readonly width: number } | undefined
  /** Width and height are multiples of this many pixels. */
  readonly sizeMultiple: number
  /**
   * Frames per latent frame after the first: frame counts are `frameMultiple` · k + 1, and k + 1 is F of the latents.
   * 1: any count, and as many latent frames.
   */
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
  /** Undefined: previews are grey. */
  readonly previewColours: PreviewColours | undefined
}
