import path from 'node:path'
import { show, TorchreelError } from '../../errors.js'
import { classNamed, schedulerFrom } from '../../schedulers/names.js'
import { cleanPrompt } from '../../text/prompt_cleaning.js'
import type { Tokenizer } from '../../text/tokenizer.js'
import { UnigramTokenizer } from '../../text/unigram_tokenizer.js'
import type { CallDefaults, Config, Family, ModelProperties } from '../family.js'
import { ignoredLoraTensors, transformerLoraNames } from './lora_names.js'

const defaults: CallDefaults = {
  steps: 50,
  frames: 81,
  fps: 16,
  guidanceScale: 5,
  videoGuidanceScale: 5,
  strength: 0.8,
}

/** Tokens of a prompt, the closing one among them. The model was trained with prompts padded to this length. */
const positions = 512

/**
 * How the published VAE encodes colours: the linear map for Wan 2.1 in stable-diffusion.cpp (MIT,
 * https://github.com/leejet/stable-diffusion.cpp, src/runtime/latent-preview.h), from [0, 1] to [-1, 1].
 */
const previewColours = {
  factors: [
    [0.015123, -0.148418, 0.479828],
    [0.003652, -0.01068, -0.037142],
    [0.212264, 0.063033, 0.016779],
    [0.232999, 0.406476, 0.220125],
    [-0.051864, -0.082384, -0.069396],
    [0.085005, -0.161492, 0.010689],
    [-0.245369, -0.506846, -0.11701],
    [-0.151145, 0.017721, 0.007207],
    [-0.293239, -0.207936, -0.421135],
    [-0.187721, 0.050783, 0.177649],
    [-0.013067, 0.265964, 0.166578],
    [0.028327, 0.109329, 0.108642],
    [-0.205343, 0.043991, 0.148914],
    [0.014307, -0.048647, -0.007219],
    [0.21715, 0.053074, 0.319923],
    [0.155357, 0.083156, 0.06478],
  ],
  offset: [-0.27027, -0.234976, -0.456853],
}

/** The latents' statistics of the published VAE, which older configs leave out. */
const publishedMean = [
  -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
  -0.1922, -0.9497, 0.2503, -0.2921,
]
const publishedDeviation = [
  2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382,
  1.1253, 2.8251, 1.916,
]

const transformerOnly = 'it changes the blocks of a UNet, and this model has a transformer'

/**
 * Wan 2.1 text to video (Wan Team 2025, https://arxiv.org/abs/2503.20314): UMT5's text encoder, a transformer that predicts a
 * flow, and a causal VAE that compresses time by 4.
 */
export const wan: Family = {
  name: 'wan',
  title: 'Wan',
  pipelineClasses: ['WanPipeline', 'WanVideoToVideoPipeline'],
  publishedModels: ['Wan-AI/Wan2.1-T2V-1.3B-Diffusers', 'Wan-AI/Wan2.1-T2V-14B-Diffusers'],
  components: [
    { role: 'textEncoder', folder: 'text_encoder', weights: 'model' },
    {
      role: 'denoiser',
      folder: 'transformer',
      weights: 'diffusion_pytorch_model',
      loraNames: transformerLoraNames,
      ignoredLoraTensors,
    },
    { role: 'vae', folder: 'vae', weights: 'diffusion_pytorch_model' },
  ],
  plainFiles: {
    'model_index.json': true,
    'scheduler/scheduler_config.json': true,
    'text_encoder/config.json': true,
    'tokenizer/tokenizer.json': true,
    'tokenizer/tokenizer_config.json': false,
    'transformer/config.json': true,
    'vae/config.json': true,
  },
  defaults,
  gpuDtype: 'bfloat16',
  sameWithAnyThreads: false,
  predictsFlow: true,
  refusedOptions: {
    clipSkip: 'its text encoder is UMT5, and the model was trained with its last layer',
    freeU: transformerOnly,
    featureCache: transformerOnly,
    window: 'its VAE decodes a video as a whole, so frames of several windows do not fit each other',
    compiledDenoiser: 'only the UNet of ModelScope models can be compiled',
  },
  refuse,
  readModel,
  loadTokenizer: async (folder, { vocabularySize }) =>
    cleaning(await UnigramTokenizer.load(path.join(folder, 'tokenizer'), positions, vocabularySize)),
  firstScheduler: (config) =>
    schedulerFrom(
      classNamed(config._class_name) ? (config._class_name as string) : 'UniPCMultistepScheduler',
      config,
    ),
}

/** Wan 2.2's models share the class of the pipeline. */
function refuse(index: Config): string | undefined {
  const { transformer_2: second } = index
  if ((Array.isArray(second) && second[0] !== null) || typeof index.boundary_ratio === 'number') {
    return 'is a Wan 2.2 A14B model, which has two transformers; torchreel runs the Wan 2.1 text-to-video models'
  }
  if (index.expand_timesteps === true) {
    return 'is a Wan 2.2 TI2V-5B model, which has another VAE; torchreel runs the Wan 2.1 text-to-video models'
  }
  return undefined
}

function readModel(_index: Config, configs: Readonly<Record<string, Config>>): ModelProperties {
  const {
    text_encoder: text,
    transformer,
    vae,
  } = configs as Record<'text_encoder' | 'transformer' | 'vae', Config>
  const latentChannels = vae.z_dim as number
  const vaeScale = 2 ** ((vae.dim_mult as number[]).length - 1)
  const patch = (transformer.patch_size as number[]).slice(1)
  const mean = numbers(vae, 'latents_mean', latentChannels, publishedMean)
  const deviation = numbers(vae, 'latents_std', latentChannels, publishedDeviation)
  if (deviation.some((one) => one <= 0)) throw fault(vae, 'latents_std', 'numbers above 0')
  return {
    family: wan,
    defaults,
    size: { height: 480, width: 832 },
    sizeMultiple: vaeScale * Math.max(...patch),
    frameMultiple: 2 ** (vae.temperal_downsample as boolean[]).filter(Boolean).length,
    vaeScale,
    tileSize: 256,
    latentChannels,
    latentScale: deviation.map((one) => 1 / one),
    latentMean: mean,
    textLayers: text.num_layers as number,
    textSize: text.d_model as number,
    positions,
    vocabularySize: text.vocab_size as number,
    previewColours: latentChannels === previewColours.factors.length ? previewColours : undefined,
  }
}

function numbers(vae: Config, key: string, count: number, published: readonly number[]): readonly number[] {
  const { [key]: value = published } = vae
  if (Array.isArray(value) && value.length === count && value.every(Number.isFinite)) return value
  throw fault(vae, key, `a list of ${count} numbers`)
}

function fault(vae: Config, key: string, expected: string): TorchreelError {
  const { [key]: received } = vae
  return new TorchreelError(
    'ERR_MODEL_CORRUPT',
    `vae/config.json: ${key} must be ${expected}, got ${show(received)}`,
    { parameter: key, expected, received },
  )
}

/** The reference cleans prompts before it tokenizes them. */
function cleaning(tokenizer: Tokenizer): Tokenizer {
  return {
    encodeAll: (prompts, name, warnings) => tokenizer.encodeAll(prompts.map(cleanPrompt), name, warnings),
  }
}
