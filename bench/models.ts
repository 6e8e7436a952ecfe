import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import {
  type Counts,
  type TextEncoderWidths,
  textEncoderCount,
  type UNetWidths,
  unetCount,
  type VaeWidths,
  vaeDecoderCount,
} from './flop.js'
import { python, repository } from './processes.js'
import type { Task } from './task.js'
import {
  type Umt5Widths,
  umt5Count,
  type WanTransformerWidths,
  type WanVaeWidths,
  wanTransformerCount,
  wanVaeDecoderCount,
} from './wan_flop.js'

/** The sizes of a checkpoint with random weights. */
type Architecture =
  | {
      readonly unet: number[]
      readonly vae: number[]
      readonly text: number
      readonly layers: number
      /** The width of a head of attention. */
      readonly head: number
    }
  | {
      readonly heads: number
      readonly hidden: number
      readonly layers: number
      readonly text: Umt5Widths & { readonly vocab_size: number }
    }

/** The published models, and narrower ones. */
const architectures: Readonly<Record<string, Architecture>> = {
  'random-32': { unet: [32, 64, 96, 96], vae: [32, 64, 96, 96], text: 128, layers: 6, head: 32 },
  'random-64': { unet: [64, 128, 256, 256], vae: [32, 64, 128, 128], text: 256, layers: 12, head: 64 },
  'random-128': { unet: [128, 256, 512, 512], vae: [64, 128, 256, 256], text: 512, layers: 12, head: 64 },
  'random-320': { unet: [320, 640, 1280, 1280], vae: [128, 256, 512, 512], text: 1024, layers: 23, head: 64 },
  'wan-100m': {
    ...{ heads: 6, hidden: 4096, layers: 9 },
    text: { d_model: 512, d_kv: 64, d_ff: 1024, num_heads: 8, num_layers: 4, vocab_size: 8192 },
  },
  'wan-1.3b': {
    ...{ heads: 12, hidden: 8960, layers: 30 },
    text: { d_model: 4096, d_kv: 64, d_ff: 10240, num_heads: 64, num_layers: 24, vocab_size: 256384 },
  },
}

/** The architectures of published models, whose graphs are in the repository. The others export their own graphs. */
const published = ['random-320', 'wan-1.3b']

/** A checkpoint on disk. */
export interface BenchModel {
  readonly folder: string
  /** Whether it has graphs of its own, exported here. */
  readonly trustGraph: boolean
  /** Numbers of a token's embedding. */
  readonly textSize: number
  /** The work of one step with guidance, of encoding both prompts and of decoding all frames. */
  counts(task: Pick<Task, 'frames' | 'width' | 'height'>): Counts
}

/**
 * Finds a checkpoint by its folder, or by the name of a random one: `random-32`, `random-64`, `random-128`, `random-320`,
 * `wan-100m`, `wan-1.3b`. Makes a random one in build/bench/models on first use.
 */
export async function benchModel(name: string): Promise<BenchModel> {
  const folder = name in architectures ? await madeCheckpoint(name) : path.resolve(name)
  const manifest = path.join(repository, 'models', 'graphs', 'manifest.json')
  const { defaults } = JSON.parse(await readFile(manifest, 'utf8')) as { defaults: Record<string, object> }
  const config = async <Widths>(component: string): Promise<Widths> => {
    const own = JSON.parse(await readFile(path.join(folder, component, 'config.json'), 'utf8'))
    return { ...defaults[own._class_name ?? own.architectures[0]], ...own }
  }
  const trustGraph = name in architectures && !published.includes(name)
  if (existsSync(path.join(folder, 'transformer'))) {
    const transformer = await config<WanTransformerWidths>('transformer')
    const vae = await config<WanVaeWidths>('vae')
    const text = await config<Umt5Widths>('text_encoder')
    return {
      ...{ folder, trustGraph, textSize: text.d_model },
      counts: ({ frames, width = 832, height = 480 }) => {
        const size = { frames: (frames + 3) / 4, height: height / 8, width: width / 8 }
        return {
          step: wanTransformerCount(transformer, size, true),
          textEncoder: umt5Count(text, 2),
          decode: wanVaeDecoderCount(vae, size),
        }
      },
    }
  }
  /** sample_size: the side of the latents in training. */
  const unet = await config<UNetWidths & { sample_size: number }>('unet')
  const vae = await config<VaeWidths>('vae')
  const text = await config<TextEncoderWidths & { max_position_embeddings: number }>('text_encoder')
  return {
    ...{ folder, trustGraph, textSize: unet.cross_attention_dim },
    counts: ({ frames, width, height }) => {
      const scale = 2 ** (vae.block_out_channels.length - 1)
      const side = (pixels: number | undefined) => (pixels ? pixels / scale : unet.sample_size)
      const size = { frames, height: side(height), width: side(width) }
      const tokens = text.max_position_embeddings
      return {
        step: unetCount(unet, size, true, tokens),
        textEncoder: textEncoderCount(text, 2, tokens),
        decode: vaeDecoderCount(vae, size),
      }
    },
  }
}

async function madeCheckpoint(name: string): Promise<string> {
  const folder = path.join(repository, 'build', 'bench', 'models', name)
  if (!existsSync(folder)) {
    console.error(`making ${folder}`)
    const configs = `${folder}.configs`
    const partial = `${folder}.partial`
    await rm(configs, { recursive: true, force: true })
    await writeConfigs(name, configs)
    const random = 'models/random_checkpoint.py'
    if (name === 'wan-1.3b') {
      // As published: the text encoder in bfloat16.
      const others = ['transformer', 'vae']
      await python(random, [configs, '--output', partial, '--dtype', 'bfloat16', '--without', ...others])
      await python(random, [configs, '--output', partial, '--without', 'text_encoder'])
    } else await python(random, [configs, '--output', partial])
    await rename(partial, folder)
    await rm(configs, { recursive: true })
  }
  if (!published.includes(name)) await exportGraphs(folder)
  return folder
}

/** Exports the graphs, unless they exist and are newer than the repository's, which change with the networks' definitions. */
async function exportGraphs(folder: string): Promise<void> {
  const graphs = path.join(folder, 'graphs')
  const changed = (manifest: string) =>
    stat(manifest).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    )
  const current = await changed(path.join(repository, 'models', 'graphs', 'manifest.json'))
  if ((await changed(path.join(graphs, 'manifest.json'))) >= current) return
  await rm(graphs, { recursive: true, force: true })
  await python('models/export.py', [folder])
}

/** Configs in the published layout. Tokenizer and scheduler come from the tests' checkpoint, which has the published ones. */
async function writeConfigs(name: string, folder: string): Promise<void> {
  const architecture = architectures[name] as Architecture
  const configs = 'unet' in architecture ? modelScopeConfigs(architecture) : wanConfigs(architecture)
  const fixture = 'unet' in architecture ? 'tiny' : 'wan'
  const tiny = path.join(repository, 'test', 'fixtures', fixture, 'checkpoint')
  for (const part of ['model_index.json', 'scheduler', 'tokenizer']) {
    await cp(path.join(tiny, part), path.join(folder, part), { recursive: true })
  }
  for (const [component, config] of Object.entries(configs)) {
    await mkdir(path.join(folder, component), { recursive: true })
    await writeFile(path.join(folder, component, 'config.json'), JSON.stringify(config, null, 2))
  }
}

function modelScopeConfigs({ unet, vae, text, layers, head }: Extract<Architecture, { unet: number[] }>) {
  return {
    unet: {
      ...{ _class_name: 'UNet3DConditionModel', sample_size: 32, in_channels: 4, out_channels: 4 },
      down_block_types: [...Array(3).fill('CrossAttnDownBlock3D'), 'DownBlock3D'],
      up_block_types: ['UpBlock3D', ...Array(3).fill('CrossAttnUpBlock3D')],
      ...{
        block_out_channels: unet,
        layers_per_block: 2,
        cross_attention_dim: text,
        attention_head_dim: head,
      },
    },
    vae: {
      ...{ _class_name: 'AutoencoderKL', sample_size: 512, in_channels: 3, out_channels: 3 },
      down_block_types: Array(4).fill('DownEncoderBlock2D'),
      up_block_types: Array(4).fill('UpDecoderBlock2D'),
      ...{ block_out_channels: vae, layers_per_block: 2, latent_channels: 4, scaling_factor: 0.18215 },
      ...{ mid_block_add_attention: true, use_quant_conv: true, use_post_quant_conv: true },
    },
    text_encoder: {
      ...{
        architectures: ['CLIPTextModel'],
        model_type: 'clip_text_model',
        vocab_size: 49408,
        hidden_act: 'gelu',
      },
      ...{ hidden_size: text, intermediate_size: 4 * text, num_attention_heads: text / 64 },
      ...{ num_hidden_layers: layers, max_position_embeddings: 77, projection_dim: 512 },
      ...{ bos_token_id: 0, eos_token_id: 2, pad_token_id: 1 },
    },
  }
}

/** The VAE is the published one. */
function wanConfigs({ heads, hidden, layers, text }: Extract<Architecture, { heads: number }>) {
  return {
    transformer: {
      ...{ _class_name: 'WanTransformer3DModel', patch_size: [1, 2, 2], in_channels: 16, out_channels: 16 },
      ...{ num_attention_heads: heads, attention_head_dim: 128, ffn_dim: hidden, num_layers: layers },
      ...{ text_dim: text.d_model, freq_dim: 256, rope_max_seq_len: 1024, eps: 1e-6 },
      ...{
        cross_attn_norm: true,
        qk_norm: 'rms_norm_across_heads',
        image_dim: null,
        added_kv_proj_dim: null,
      },
    },
    vae: {
      ...{ _class_name: 'AutoencoderKLWan', base_dim: 96, z_dim: 16, dim_mult: [1, 2, 4, 4] },
      ...{ in_channels: 3, out_channels: 3, num_res_blocks: 2, attn_scales: [], dropout: 0 },
      temperal_downsample: [false, true, true],
    },
    text_encoder: {
      ...{ architectures: ['UMT5EncoderModel'], model_type: 'umt5', ...text },
      ...{ relative_attention_num_buckets: 32, relative_attention_max_distance: 128 },
      ...{ layer_norm_epsilon: 1e-6, feed_forward_proj: 'gated-gelu', pad_token_id: 0, eos_token_id: 1 },
      // Without these, transformers takes the embedding for a decoder's, too.
      ...{ is_encoder_decoder: true, tie_word_embeddings: true },
    },
  }
}
