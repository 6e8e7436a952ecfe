/**
 * Arranges frames in rows, from left to right and from top to bottom. Missing frames of the last row are black.
 *
 * @param frames rgb24, (height, width, 3)
 * @returns rgb24, (rows · height, columns · width, 3)
 */
export function tileFrames(
  frames: readonly Uint8Array[],
  { width, height }: { readonly width: number; readonly height: number },
  columns: number,
): { width: number; height: number; data: Uint8Array } {
  const rows = Math.ceil(frames.length / columns)
  const [stride, sheetStride] = [width * 3, columns * width * 3]
  const data = new Uint8Array(rows * height * sheetStride)
  for (const [index, frame] of frames.entries()) {
    const [row, column] = [Math.floor(index / columns), index % columns]
    for (let y = 0; y < height; y++) {
      const line = frame.subarray(y * stride, (y + 1) * stride)
      data.set(line, (row * height + y) * sheetStride + column * stride)
    }
  }
  return { width: columns * width, height: rows * height, data }
}
