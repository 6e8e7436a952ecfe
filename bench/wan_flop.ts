/** The floating-point operations of Wan's networks, counted as in flop.ts. */
import { type Count, type LatentSize, Products } from './flop.js'

/** The relevant keys of transformer/config.json. */
export interface WanTransformerWidths {
  readonly num_attention_heads: number
  readonly attention_head_dim: number
  readonly in_channels: number
  readonly out_channels: number
  readonly patch_size: readonly [number, number, number]
  readonly text_dim: number
  readonly freq_dim: number
  readonly ffn_dim: number
  readonly num_layers: number
}

/** The relevant keys of vae/config.json. */
export interface WanVaeWidths {
  readonly base_dim: number
  readonly z_dim: number
  readonly out_channels: number
  readonly dim_mult: readonly number[]
  readonly num_res_blocks: number
  readonly temperal_downsample: readonly boolean[]
}

/** The relevant keys of text_encoder/config.json. */
export interface Umt5Widths {
  readonly d_model: number
  readonly d_kv: number
  readonly d_ff: number
  readonly num_heads: number
  readonly num_layers: number
}

/** Tokens of a prompt with its padding. */
const textTokens = 512

/**
 * One call of the transformer. By definition, the text's keys and values are computed in every step, and the time's embedding
 * for every prompt.
 *
 * @param size of the latents
 * @param guided whether it is a pair of prompts, for classifier-free guidance
 */
export function wanTransformerCount(widths: WanTransformerWidths, size: LatentSize, guided: boolean): Count {
  const count = new Products()
  const items = guided ? 2 : 1
  const [time, height, width] = widths.patch_size
  const patch = time * height * width
  const tokens = (size.frames / time) * (size.height / height) * (size.width / width)
  const channels = widths.num_attention_heads * widths.attention_head_dim

  count.multiply(widths.freq_dim * channels + 7 * channels ** 2, items, 1)
  count.multiply(widths.text_dim * channels + channels ** 2, items * textTokens, 0)
  count.multiply(patch * widths.in_channels * channels, items * tokens)
  const { num_layers: layers } = widths
  count.multiply(layers * (6 * channels ** 2 + 2 * channels * widths.ffn_dim), items * tokens)
  count.multiply(layers * 2 * channels ** 2, items * textTokens, 0) // keys and values of the text
  count.attend(tokens, tokens, channels, layers * items)
  count.attend(tokens, textTokens, channels, layers * items)
  count.multiply(patch * channels * widths.out_channels, items * tokens)
  return count
}

/** Encoding this many prompts, with their padding. torchreel computes only the real tokens, which are not known here. */
export function umt5Count(widths: Umt5Widths, prompts: number): Count {
  const count = new Products()
  const inner = widths.num_heads * widths.d_kv
  const { d_model: channels, d_ff: hidden, num_layers: layers } = widths
  count.multiply(layers * (4 * channels * inner + 3 * channels * hidden), prompts * textTokens)
  count.attend(textTokens, textTokens, layers * inner, prompts)
  return count
}

/** Decoding a video. size: of the latents; its frames are latent frames, of which all but the first become several. */
export function wanVaeDecoderCount(widths: WanVaeWidths, size: LatentSize): Count {
  const count = new Products()
  const levels = widths.dim_mult.map((factor) => factor * widths.base_dim).reverse()
  const doublesTime = [...widths.temperal_downsample].reverse()
  let { frames, height, width } = size
  const multiply = (weights: number) => count.multiply(weights, frames * height * width)
  const resnet = (channels: number, outChannels: number) => {
    multiply(27 * channels * outChannels + 27 * outChannels ** 2)
    if (channels !== outChannels) multiply(channels * outChannels)
  }

  let before = levels[0] as number
  multiply(widths.z_dim ** 2)
  multiply(27 * widths.z_dim * before)
  resnet(before, before)
  multiply(4 * before ** 2)
  count.attend(height * width, height * width, before, frames)
  resnet(before, before)
  for (const [level, channels] of levels.entries()) {
    for (let at = 0; at <= widths.num_res_blocks; at++) {
      resnet(before, channels)
      before = channels
    }
    if (level === levels.length - 1) continue
    if (doublesTime[level]) {
      count.multiply(3 * channels * 2 * channels, (frames - 1) * height * width) // the first frame stays one
      frames = 1 + 2 * (frames - 1)
    }
    height *= 2
    width *= 2
    multiply((9 * channels ** 2) / 2)
    before = channels / 2
  }
  multiply(27 * before * widths.out_channels)
  return count
}
