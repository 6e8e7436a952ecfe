import type { PreviewColours } from '../families/family.js'
import type { Tensor } from '../tensor.js'
import { Video } from '../video/video.js'

/**
 * Makes small frames from latents by one linear map, without the VAE: one pixel for each latent.
 *
 * @param latents (B, C, F, h, w)
 * @param index which of the B
 * @param fps of the latent frames
 * @param colours undefined: the mean of all channels, as grey
 */
export function makePreview(
  { data, shape }: Tensor,
  index: number,
  fps: number,
  colours: PreviewColours | undefined,
): Video {
  const [, channels, frames, height, width] = shape as [number, number, number, number, number]
  const mean = 1 / channels
  const { factors, offset } = colours ?? {
    factors: new Array<number[]>(channels).fill([mean, mean, mean]),
    offset: [0, 0, 0],
  }
  const channelSize = frames * height * width
  const pixels = new Uint8ClampedArray(channelSize * 3)
  for (let pixel = 0; pixel < channelSize; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      let value = offset[colour] as number
      for (const [channel, weights] of factors.entries()) {
        const latent = data[(index * channels + channel) * channelSize + pixel] as number
        value += (weights[colour] as number) * latent
      }
      pixels[pixel * 3 + colour] = (value + 1) * 127.5
    }
  }
  return new Video({ width, height, fps, data: new Uint8Array(pixels.buffer) })
}
