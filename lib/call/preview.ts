import type { Tensor } from '../tensor.js'
import { Video } from '../video/video.js'

/** How strongly each latent channel of Stable Diffusion's VAE shows in red, green and blue. (4, 3) */
const stableDiffusionColours = [
  [0.3512, 0.2297, 0.3227],
  [0.325, 0.4974, 0.235],
  [-0.2829, 0.1762, 0.2721],
  [-0.212, -0.2616, -0.7177],
]

/**
 * Small frames made of latents by one linear map, without the VAE: a pixel for each latent. The published models share
 * Stable Diffusion's VAE, and so its colours; latents of another number of channels come out grey.
 *
 * @param latents (B, C, F, h, w)
 * @param index which of the B
 */
export function previewOf({ data, shape }: Tensor, index: number, fps: number): Video {
  const [, channels, frames, height, width] = shape as [number, number, number, number, number]
  const colours =
    channels === 4
      ? stableDiffusionColours
      : new Array<number[]>(channels).fill([1, 1, 1].map((one) => one / channels))
  const plane = height * width
  const channel = frames * plane
  const pixels = new Uint8ClampedArray(channel * 3)
  for (let pixel = 0; pixel < channel; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      let value = 0
      for (const [from, weights] of colours.entries()) {
        value += (weights[colour] as number) * (data[(index * channels + from) * channel + pixel] as number)
      }
      pixels[pixel * 3 + colour] = (value + 1) * 127.5
    }
  }
  return new Video({ width, height, fps, data: new Uint8Array(pixels.buffer) })
}
