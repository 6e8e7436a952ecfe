import path from 'node:path'
import { show, TorchreelError } from '../../errors.js'
import { DPMSolverMultistepScheduler } from '../../schedulers/index.js'
import { ClipTokenizer } from '../../text/clip_tokenizer.js'
import type { CallDefaults, Config, Family, ModelProperties } from '../family.js'

const defaults: CallDefaults = {
  steps: 25,
  frames: 16,
  fps: 8,
  guidanceScale: 9,
  videoGuidanceScale: 15,
  strength: 0.6,
}

/** How Stable Diffusion's VAE, which the published models share, encodes colours. */
const previewColours = {
  factors: [
    [0.3512, 0.2297, 0.3227],
    [0.325, 0.4974, 0.235],
    [-0.2829, 0.1762, 0.2721],
    [-0.212, -0.2616, -0.7177],
  ],
  offset: [0, 0, 0],
} as const

/**
 * ModelScope text-to-video and its relatives (Wang et al. 2023, https://arxiv.org/abs/2308.06571), such as zeroscope:
 * CLIP's text encoder, a UNet with temporal layers, and Stable Diffusion's VAE, frame by frame.
 */
export const modelscope: Family = {
  name: 'modelscope',
  title: 'ModelScope',
  pipelineClasses: ['TextToVideoSDPipeline', 'VideoToVideoSDPipeline'],
  publishedModels: ['damo-vilab/text-to-video-ms-1.7b', 'ali-vilab/text-to-video-ms-1.7b'],
  components: [
    {
      role: 'textEncoder',
      folder: 'text_encoder',
      weights: 'model',
      loraNames: textEncoderLoraNames,
      tokenTable: 'text_model.embeddings.token_embedding.weight',
    },
    { role: 'denoiser', folder: 'unet', weights: 'diffusion_pytorch_model', loraNames: unetLoraNames },
    { role: 'vae', folder: 'vae', weights: 'diffusion_pytorch_model' },
  ],
  plainFiles: {
    'model_index.json': true,
    'scheduler/scheduler_config.json': true,
    'text_encoder/config.json': true,
    'tokenizer/added_tokens.json': false,
    'tokenizer/merges.txt': 'tokenizer/tokenizer.json',
    'tokenizer/special_tokens_map.json': false,
    'tokenizer/tokenizer_config.json': true,
    'tokenizer/vocab.json': 'tokenizer/tokenizer.json',
    'unet/config.json': true,
    'vae/config.json': true,
  },
  defaults,
  predictsFlow: false,
  gpuDtype: 'float16',
  sameWithAnyThreads: true,
  refusedOptions: {},
  readModel,
  loadTokenizer: (folder, { positions, vocabularySize }) =>
    ClipTokenizer.load(path.join(folder, 'tokenizer'), positions, vocabularySize),
  firstScheduler: (config) => DPMSolverMultistepScheduler.fromConfig(config),
}

function readModel(index: Config, configs: Readonly<Record<string, Config>>): ModelProperties {
  const { text_encoder: text, unet, vae } = configs as Record<'text_encoder' | 'unet' | 'vae', Config>
  const vaeScale = 2 ** ((vae.block_out_channels as number[]).length - 1)
  const latentChannels = unet.in_channels as number
  const scale = positive('vae/config.json', vae, 'scaling_factor') ?? 0.18215
  const guidance = positive('model_index.json', index, '_guidance_scale')
  const [height, width] = readSides(unet.sample_size)
  return {
    family: modelscope,
    defaults: {
      ...defaults,
      guidanceScale: guidance ?? defaults.guidanceScale,
      videoGuidanceScale: guidance ?? defaults.videoGuidanceScale,
    },
    size: height && width ? { height: height * vaeScale, width: width * vaeScale } : undefined,
    sizeMultiple: vaeScale,
    frameMultiple: 1,
    vaeScale,
    tileSize: readSides(vae.sample_size)[0] ?? positive('vae/config.json', vae, 'sample_size') ?? 512,
    latentChannels,
    latentScale: new Array<number>(latentChannels).fill(scale),
    latentMean: new Array<number>(latentChannels).fill(0),
    textLayers: text.num_hidden_layers as number,
    textSize: text.hidden_size as number,
    positions: text.max_position_embeddings as number,
    vocabularySize: text.vocab_size as number,
    previewColours: latentChannels === previewColours.factors.length ? previewColours : undefined,
  }
}

/** Height and width of a `sample_size`: one number for both, or a list of two; empty: neither. */
function readSides(value: unknown): number[] {
  const sides = Array.isArray(value) && value.length === 2 ? value : [value, value]
  return sides.every((side) => Number.isSafeInteger(side) && side > 0) ? sides : []
}

/** A value of a config that is no part of the architecture, and so was compared with no graph's. */
function positive(file: string, config: Config, key: string): number | undefined {
  const { [key]: value } = config
  if (value === undefined || (typeof value === 'number' && Number.isFinite(value) && value > 0)) return value
  throw new TorchreelError(
    'ERR_MODEL_CORRUPT',
    `${file}: ${key} must be a positive number, got ${show(value)}`,
    {
      parameter: key,
      expected: 'a positive number',
      received: value,
    },
  )
}

// ---- names in LoRA files --------------------------------------------------------------------------------------------

/** PEFT's and Kohya's names, and that of files from before PEFT: the attention's processor, as in `attn1.processor.to_out`. */
function unetLoraNames(layer: string): string[] {
  const names = [layer, layer.replace(/\.to_out\.0$/, '.to_out')]
  const processors = names.map((name) => name.replace(/\.(to_(?:q|k|v|out(?:\.0)?))$/, '.processor.$1'))
  return [
    ...[...names, ...processors].map((name) => `unet.${name}`),
    `lora_unet_${layer.replaceAll('.', '_')}`,
  ]
}

/**
 * PEFT's and Kohya's names, those of transformers 5, whose text encoder has no outer module, and those of files from before
 * PEFT: `self_attn.to_q`.
 */
function textEncoderLoraNames(layer: string): string[] {
  // PEFT adapts tables in another way, which is not supported.
  if (/\.(token|position)_embedding$/.test(layer)) return []
  const names = [layer, layer.replace(/\.self_attn\.(q|k|v|out)_proj$/, '.self_attn.to_$1')]
  const kohya = layer.replaceAll('.', '_')
  return [
    ...names.map((name) => `text_encoder.${name}`),
    ...names.map((name) => `text_encoder.${name.replace(/^text_model\./, '')}`),
    `lora_te_${kohya}`,
    `lora_te1_${kohya}`,
  ]
}
