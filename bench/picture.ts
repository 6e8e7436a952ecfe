/** A video for comparison: rgb24, (frames, height, width, 3). */
export interface Video {
  readonly width: number
  readonly height: number
  readonly data: Uint8Array
}

/** Peak signal-to-noise ratio in dB over all values. Infinity if they are equal. */
export function psnr({ data: one }: Video, { data: other }: Video): number {
  let squares = 0
  for (let at = 0; at < one.length; at++) squares += ((one[at] as number) - (other[at] as number)) ** 2
  return 10 * Math.log10(255 ** 2 / (squares / one.length))
}

const side = 8
const stride = 4
const [c1, c2] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2]

/**
 * Structural similarity (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861) of the luma: the mean over all frames and
 * windows of 8 × 8 pixels, four pixels apart. 1 if they are equal.
 */
export function ssim(one: Video, other: Video): number {
  const { width, height } = one
  const [a, b] = [luma(one), luma(other)]
  let sum = 0
  let windows = 0
  for (let frame = 0; frame < a.length; frame += width * height) {
    for (let y = 0; y + side <= height; y += stride) {
      for (let x = 0; x + side <= width; x += stride) {
        sum += similarity(a, b, frame + y * width + x, width)
        windows++
      }
    }
  }
  return sum / windows
}

function luma({ data }: Video): Float64Array {
  const at = (index: number) => data[index] as number
  return Float64Array.from(
    { length: data.length / 3 },
    (_, pixel) => 0.299 * at(3 * pixel) + 0.587 * at(3 * pixel + 1) + 0.114 * at(3 * pixel + 2),
  )
}

function similarity(a: Float64Array, b: Float64Array, start: number, width: number): number {
  let [sumA, sumB, squaresA, squaresB, products] = [0, 0, 0, 0, 0]
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const at = start + row * width + column
      const [one, other] = [a[at] as number, b[at] as number]
      sumA += one
      sumB += other
      squaresA += one * one
      squaresB += other * other
      products += one * other
    }
  }
  const count = side * side
  const [meanA, meanB] = [sumA / count, sumB / count]
  const covariance = products / count - meanA * meanB
  const variances = squaresA / count - meanA ** 2 + squaresB / count - meanB ** 2
  return (
    ((2 * meanA * meanB + c1) * (2 * covariance + c2)) / ((meanA ** 2 + meanB ** 2 + c1) * (variances + c2))
  )
}
