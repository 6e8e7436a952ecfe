/**
 * Counts the floating-point operations of the networks from the values in their configs. Counts products only, of weights and
 * of attention, with one multiplication and one addition each. All else (norms, activations, sums) is below 1%.
 */

/** The relevant keys of unet/config.json. */
export interface UNetWidths {
  readonly in_channels: number
  readonly out_channels: number
  readonly block_out_channels: readonly number[]
  readonly down_block_types: readonly string[]
  readonly up_block_types: readonly string[]
  readonly layers_per_block: number
  readonly cross_attention_dim: number
  readonly attention_head_dim: number
}

/** The relevant keys of vae/config.json. */
export interface VaeWidths {
  readonly out_channels: number
  readonly latent_channels: number
  readonly block_out_channels: readonly number[]
  readonly layers_per_block: number
  readonly mid_block_add_attention: boolean
  readonly use_post_quant_conv: boolean
}

/** The relevant keys of text_encoder/config.json. */
export interface TextEncoderWidths {
  readonly hidden_size: number
  readonly intermediate_size: number
  readonly num_hidden_layers: number
}

/** The size of a network's input. */
export interface LatentSize {
  readonly frames: number
  readonly height: number
  readonly width: number
}

/** The amount of work of a network. */
export interface Count {
  /** As the architecture is defined: for every item, every frame and every step. */
  readonly flop: number
  /**
   * The part that torchreel computes for the same result. The keys and values of the text do not belong to a step. A
   * convolution counts as defined, with any algorithm.
   */
  readonly computed: number
  /** The number of weights that take part in products. */
  readonly weights: number
}

/** The work of the stages of a call. */
export type Counts = Readonly<Record<'step' | 'textEncoder' | 'decode', Count>>

/** Adds up the products of a network. */
export class Products implements Count {
  flop = 0
  computed = 0
  weights = 0

  /** Counts `weights` numbers, each multiplied `times` times by definition, and `computedTimes` times by torchreel. */
  multiply(weights: number, times: number, computedTimes = times): void {
    this.weights += weights
    this.flop += 2 * weights * times
    this.computed += 2 * weights * computedTimes
  }

  /** softmax(Q·Kᵀ)·V without its weights: `queries` × `keys` tokens, `channels` in all heads together, `sequences` times. */
  attend(queries: number, keys: number, channels: number, sequences: number, computed = sequences): void {
    this.flop += 4 * queries * keys * channels * sequences
    this.computed += 4 * queries * keys * channels * computed
  }
}

/**
 * One call of the UNet. By definition, the text's keys and values are computed for each frame, and a pair's halves separately.
 *
 * @param size of the latents
 * @param guided whether it is a pair of prompts, for classifier-free guidance
 * @param textTokens tokens of a prompt
 */
export function unetCount(widths: UNetWidths, size: LatentSize, guided: boolean, textTokens = 77): Count {
  const count = new Products()
  const items = guided ? 2 : 1
  const { frames } = size
  const head = widths.attention_head_dim
  const channels = widths.block_out_channels
  const first = channels[0] as number
  const time = 4 * first
  let { height, width } = size
  let shared = true // both halves of a pair are equal before the first text layer
  const tokens = () => frames * height * width
  const multiply = (weights: number, times: number) =>
    count.multiply(weights, items * times, (shared ? 1 : items) * times)

  const temporalTransformer = (channels: number, inner: number) => {
    multiply(2 * channels * inner + (4 + 4 + 12) * inner ** 2, tokens())
    count.attend(frames, frames, 2 * inner, items * height * width, (shared ? 1 : items) * height * width)
  }
  const spatialTransformer = (channels: number) => {
    const inner = Math.floor(channels / head) * head
    const positions = height * width
    multiply(channels * inner + 4 * inner ** 2, tokens()) // proj_in, self-attention
    count.attend(positions, positions, inner, items * frames, (shared ? 1 : items) * frames)
    shared = false
    count.multiply(2 * widths.cross_attention_dim * inner, items * frames * textTokens, 0)
    multiply(2 * inner ** 2 + 12 * inner ** 2 + inner * channels, tokens()) // cross-attention, feed-forward, proj_out
    count.attend(positions, textTokens, inner, items * frames)
  }
  const layer = (channels: number, outChannels: number, attention: boolean) => {
    count.multiply(time * outChannels, items * frames, 1)
    multiply(9 * channels * outChannels + 9 * outChannels ** 2, tokens())
    if (channels !== outChannels) multiply(channels * outChannels, tokens())
    multiply(4 * 3 * outChannels ** 2, tokens()) // the temporal convolutions
    if (!attention) return
    spatialTransformer(outChannels)
    temporalTransformer(outChannels, Math.floor(outChannels / head) * head)
  }

  count.multiply(first * time + time ** 2, items, 1)
  multiply(9 * widths.in_channels * first, tokens())
  temporalTransformer(first, 8 * head)

  const skips = [{ channels: first, height, width }]
  for (const [index, outChannels] of channels.entries()) {
    const attention = widths.down_block_types[index] === 'CrossAttnDownBlock3D'
    for (let at = 0; at < widths.layers_per_block; at++) {
      layer((skips.at(-1) as { channels: number }).channels, outChannels, attention)
      skips.push({ channels: outChannels, height, width })
    }
    if (index === channels.length - 1) continue
    height = Math.ceil(height / 2)
    width = Math.ceil(width / 2)
    multiply(9 * outChannels ** 2, tokens())
    skips.push({ channels: outChannels, height, width })
  }

  let before = channels.at(-1) as number
  layer(before, before, true)
  layer(before, before, false)

  for (const [index, outChannels] of [...channels].reverse().entries()) {
    const attention = widths.up_block_types[index] === 'CrossAttnUpBlock3D'
    for (let at = 0; at <= widths.layers_per_block; at++) {
      layer(before + (skips.pop() as { channels: number }).channels, outChannels, attention)
      before = outChannels
    }
    const next = skips.at(-1)
    if (next === undefined) continue
    height = next.height
    width = next.width
    multiply(9 * before ** 2, tokens())
  }
  multiply(9 * first * widths.out_channels, tokens())
  return count
}

/** Encoding this many prompts. */
export function textEncoderCount(widths: TextEncoderWidths, prompts: number, textTokens = 77): Count {
  const count = new Products()
  const { hidden_size: channels, intermediate_size: inner, num_hidden_layers: layers } = widths
  count.multiply(layers * (4 * channels ** 2 + 2 * channels * inner), prompts * textTokens)
  count.attend(textTokens, textTokens, layers * channels, prompts)
  return count
}

/** Decoding the frames of a video. */
export function vaeDecoderCount(widths: VaeWidths, size: LatentSize): Count {
  const count = new Products()
  const { frames } = size
  let { height, width } = size
  const multiply = (weights: number) => count.multiply(weights, frames * height * width)
  const resnet = (channels: number, outChannels: number) => {
    multiply(9 * channels * outChannels + 9 * outChannels ** 2)
    if (channels !== outChannels) multiply(channels * outChannels)
  }

  const reversed = [...widths.block_out_channels].reverse()
  let before = reversed[0] as number
  if (widths.use_post_quant_conv) multiply(widths.latent_channels ** 2)
  multiply(9 * widths.latent_channels * before)
  resnet(before, before)
  if (widths.mid_block_add_attention) {
    multiply(4 * before ** 2)
    count.attend(height * width, height * width, before, frames)
  }
  resnet(before, before)
  for (const [index, channels] of reversed.entries()) {
    for (let at = 0; at <= widths.layers_per_block; at++) {
      resnet(before, channels)
      before = channels
    }
    if (index === reversed.length - 1) continue
    height *= 2
    width *= 2
    multiply(9 * channels ** 2)
  }
  multiply(9 * before * widths.out_channels)
  return count
}
