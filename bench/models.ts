import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { TextEncoderWidths, UNetWidths, VaeWidths } from './flop.js'
import { python, repository } from './processes.js'

/** Architectures to make checkpoints of, with random weights: text-to-video-ms-1.7b itself, and narrower ones. */
const architectures: Readonly<
  Record<string, { unet: number[]; vae: number[]; text: number; layers: number }>
> = {
  'random-64': { unet: [64, 128, 256, 256], vae: [32, 64, 128, 128], text: 256, layers: 12 },
  'random-128': { unet: [128, 256, 512, 512], vae: [64, 128, 256, 256], text: 512, layers: 12 },
  'random-320': { unet: [320, 640, 1280, 1280], vae: [128, 256, 512, 512], text: 1024, layers: 23 },
}

/** That of text-to-video-ms-1.7b, whose graphs are in the repository; the others get graphs of their own. */
const published = 'random-320'

/** A checkpoint that is there, and what counts of its configs. */
export interface BenchModel {
  readonly folder: string
  /** sample_size: the side of the latents that it was trained on. */
  readonly unet: UNetWidths & { readonly sample_size: number }
  readonly vae: VaeWidths
  readonly textEncoder: TextEncoderWidths & { readonly max_position_embeddings: number }
  /** Whether it brings graphs of its own, which were exported here. */
  readonly trustGraph: boolean
}

/**
 * A checkpoint by its folder, or one of random weights by its architecture's name, which is made in build/bench/models
 * when it is asked for first: `random-64`, `random-128`, `random-320`.
 */
export async function benchModel(name: string): Promise<BenchModel> {
  const folder = name in architectures ? await madeCheckpoint(name) : path.resolve(name)
  const manifest = path.join(repository, 'models', 'graphs', 'manifest.json')
  const { defaults } = JSON.parse(await readFile(manifest, 'utf8')) as { defaults: Record<string, object> }
  const config = async (component: string): Promise<unknown> => {
    const own = JSON.parse(await readFile(path.join(folder, component, 'config.json'), 'utf8'))
    return { ...defaults[own._class_name ?? own.architectures[0]], ...own }
  }
  return {
    folder,
    unet: (await config('unet')) as BenchModel['unet'],
    vae: (await config('vae')) as VaeWidths,
    textEncoder: (await config('text_encoder')) as BenchModel['textEncoder'],
    trustGraph: name in architectures && name !== published,
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
    await python('models/random_checkpoint.py', [configs, '--output', partial])
    await rename(partial, folder)
    await rm(configs, { recursive: true })
  }
  if (name !== published) await exportGraphs(folder)
  return folder
}

/** Unless they are there, and no older than those of the repository, which change when the networks' definitions do. */
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

/** Configs in the published layout. Tokenizer and scheduler are those of the tests' checkpoint, which are the published ones. */
async function writeConfigs(name: string, folder: string): Promise<void> {
  const { unet, vae, text, layers } = architectures[name] as (typeof architectures)[string]
  const tiny = path.join(repository, 'test', 'fixtures', 'tiny', 'checkpoint')
  for (const part of ['model_index.json', 'scheduler', 'tokenizer']) {
    await cp(path.join(tiny, part), path.join(folder, part), { recursive: true })
  }
  const configs = {
    unet: {
      ...{ _class_name: 'UNet3DConditionModel', sample_size: 32, in_channels: 4, out_channels: 4 },
      down_block_types: [...Array(3).fill('CrossAttnDownBlock3D'), 'DownBlock3D'],
      up_block_types: ['UpBlock3D', ...Array(3).fill('CrossAttnUpBlock3D')],
      ...{ block_out_channels: unet, layers_per_block: 2, cross_attention_dim: text, attention_head_dim: 64 },
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
  for (const [component, config] of Object.entries(configs)) {
    await mkdir(path.join(folder, component), { recursive: true })
    await writeFile(path.join(folder, component, 'config.json'), JSON.stringify(config, null, 2))
  }
}
