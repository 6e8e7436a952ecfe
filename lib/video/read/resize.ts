/** An image as rgb24, (height, width, 3). */
export interface RgbImage {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array
}

/**
 * Resizes by cubic convolution (Keys 1981, a = −0.5), like Pillow's bicubic filter: first the rows, then the columns, each
 * rounded to whole values. The filter is wider if the image shrinks, so that every pixel counts.
 */
export function resizeImage(image: RgbImage, width: number, height: number): RgbImage {
  let { data } = image
  if (width !== image.width) data = resample(data, image.height, image.width, width, 3)
  if (height !== image.height) data = resample(data, 1, image.height, height, width * 3)
  return { width, height, data }
}

/** (outer, from, inner) → (outer, to, inner) */
function resample(data: Uint8Array, outer: number, from: number, to: number, inner: number): Uint8Array {
  const resized = new Uint8ClampedArray(outer * to * inner)
  const taps = filters(from, to)
  let written = 0
  for (let line = 0; line < outer; line++) {
    for (const { first, weights } of taps) {
      const start = (line * from + first) * inner
      for (let i = start; i < start + inner; i++) {
        let sum = 0.5 // rounds halves up
        for (let tap = 0; tap < weights.length; tap++) {
          sum += (weights[tap] as number) * (data[i + tap * inner] as number)
        }
        resized[written++] = Math.floor(sum)
      }
    }
  }
  return new Uint8Array(resized.buffer)
}

/** For each new position: the first old position that contributes, and the weights from there on. Their sum is 1. */
function filters(from: number, to: number): { first: number; weights: number[] }[] {
  const step = from / to
  const scale = Math.max(step, 1)
  return Array.from({ length: to }, (_, position) => {
    const centre = (position + 0.5) * step
    const first = Math.max(0, Math.trunc(centre - 2 * scale + 0.5))
    const end = Math.min(from, Math.trunc(centre + 2 * scale + 0.5))
    const weights = Array.from({ length: end - first }, (_, tap) =>
      cubic((first + tap - centre + 0.5) / scale),
    )
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    return { first, weights: weights.map((weight) => weight / total) }
  })
}

function cubic(distance: number): number {
  const x = Math.abs(distance)
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2
  return 0
}
