/** The world of the model `shapes`, with the words and numbers of models/training/world.py. */

/** Radius in pixels of the circle that has the object's area, for every shape. */
export const sizes = { small: 7.5, big: 13 } as const

export const colours = {
  red: [230, 30, 35],
  green: [30, 190, 60],
  blue: [40, 80, 240],
  yellow: [250, 225, 35],
  orange: [250, 130, 15],
  purple: [140, 40, 190],
  pink: [255, 140, 195],
  white: [250, 250, 250],
} as const

export const shapes = ['circle', 'square', 'triangle', 'star'] as const

/** Directions in the image, x to the right, y down. */
export const motions = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1], still: [0, 0] } as const

export const backgrounds = {
  black: [0, 0, 0],
  white: [240, 240, 240],
  gray: [125, 125, 125],
  blue: [25, 45, 110],
  green: [20, 85, 45],
} as const

export type Size = keyof typeof sizes
export type Colour = keyof typeof colours
export type Shape = (typeof shapes)[number]
export type Motion = keyof typeof motions
export type Background = keyof typeof backgrounds

/** The content of a clip. */
export interface Sight {
  readonly size: Size
  readonly colour: Colour
  readonly shape: Shape
  readonly motion: Motion
  readonly background: Background
}

/** 8-bit RGB frames, row by row. */
export interface Clip {
  /** (F, H, W, 3) */
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
}

/** Signed distance, negative inside, of (x, y) from an outline around (0, 0) with the area π·radius². */
export function distance(shape: Shape, x: number, y: number, radius: number): number {
  switch (shape) {
    case 'circle':
      return Math.hypot(x, y) - radius
    case 'square':
      return Math.max(Math.abs(x), Math.abs(y)) - (radius * Math.sqrt(Math.PI)) / 2
    case 'triangle': {
      const inner = radius * Math.sqrt(Math.PI / Math.sqrt(27))
      return Math.max(y, Math.abs(x) * Math.cos(Math.PI / 6) - y / 2) - inner
    }
    case 'star': {
      // Folded into the half of one point, where the outline is one straight edge.
      const waist = 0.45
      const half = Math.PI / 5
      const outer = radius * Math.sqrt(Math.PI / (5 * waist * Math.sin(half)))
      const turn = (Math.atan2(x, -y) + half + 4 * half) % (2 * half)
      const angle = Math.abs(turn - half)
      const length = Math.hypot(x, y)
      const along = length * Math.cos(angle) - outer
      const across = length * Math.sin(angle)
      const edgeX = waist * Math.cos(half) - 1
      const edgeY = waist * Math.sin(half)
      return (along * edgeY - across * edgeX) / Math.hypot(edgeX, edgeY)
    }
  }
}

/** A clip of 64 × 64 pixels. `speed` in pixels per frame; `middle`: the object's centre halfway through the clip. */
export function draw(
  sight: Sight,
  middle: readonly [number, number] = [32, 32],
  frames = 16,
  speed = 1.75,
): Clip {
  const side = 64
  const data = new Uint8Array(frames * side * side * 3)
  const [directionX, directionY] = motions[sight.motion]
  const colour = colours[sight.colour]
  const ground = backgrounds[sight.background]
  let offset = 0
  for (let frame = 0; frame < frames; frame++) {
    const way = speed * (frame - (frames - 1) / 2)
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const x = column + 0.5 - middle[0] - way * directionX
        const y = row + 0.5 - middle[1] - way * directionY
        const covered = Math.min(1, Math.max(0, 0.5 - distance(sight.shape, x, y, sizes[sight.size])))
        for (let channel = 0; channel < 3; channel++) {
          const from = ground[channel] as number
          data[offset++] = Math.round(from + covered * ((colour[channel] as number) - from))
        }
      }
    }
  }
  return { data, width: side, height: side }
}
