import {
  type Background,
  backgrounds,
  type Clip,
  colours,
  distance,
  motions,
  type Shape,
  type Sight,
  shapes,
  sizes,
} from './shapes_world.js'

/** The smallest area of an object, in pixels. */
const leastArea = 40
/** An object counts as moving if its centre moves by this many pixels from the first to the last quarter of a clip. */
const leastWay = 4

/**
 * Recognises the content of a clip of `shapes` from its pixels. Without an object it returns only the background.
 *
 * The background is the median colour of the frame's edges. The object's colour is the median of the pixels furthest from
 * it. A pixel's position between both colours gives its covered fraction, and these give area, centre and outline. The
 * shape is the one that overlaps best when drawn with the same centre and area.
 */
export function judge(clip: Clip): Partial<Sight> & Pick<Sight, 'background'> {
  const pixels = clip.data.length / 3
  const ground = medianColour(clip, edgePixels(clip))
  const background = nearest(ground, backgrounds) as Background
  const away = Float64Array.from({ length: pixels }, (_, pixel) => squaredDistance(clip, pixel, ground))
  const frames = pixels / (clip.width * clip.height)
  const enough = Float64Array.from(away)
    .sort()
    .at(-leastArea * frames) as number
  const furthest = Array.from(away.keys()).filter((pixel) => (away[pixel] as number) >= enough)
  const colour = medianColour(clip, furthest)
  if (Math.hypot(...colour.map((value, channel) => value - (ground[channel] as number))) < 40)
    return { background }

  const outlines = Array.from({ length: frames }, (_, frame) => outline(clip, frame, ground, colour))
  const radius = Math.sqrt(median(outlines.map(({ area }) => area)) / Math.PI)
  if (Math.PI * radius ** 2 < leastArea) return { background }

  const quarter = Math.max(1, Math.floor(frames / 4))
  const first = outlines.slice(0, quarter)
  const last = outlines.slice(-quarter)
  const dx = mean(last.map(({ x }) => x)) - mean(first.map(({ x }) => x))
  const dy = mean(last.map(({ y }) => y)) - mean(first.map(({ y }) => y))
  const moves = Math.max(Math.abs(dx), Math.abs(dy)) >= leastWay
  return {
    background,
    colour: nearest(colour, colours),
    size: least(keys(sizes), (size) => Math.abs(Math.log(sizes[size] / radius))),
    shape: least(shapes, (shape) => -sum(outlines.map((outline) => overlap(shape, outline)))),
    motion: moves ? least(keys(motions), (way) => -dx * motions[way][0] - dy * motions[way][1]) : 'still',
  }
}

/** The fraction of each pixel that the object covers, with its area and centre in pixels. */
interface Outline {
  readonly covered: Float64Array
  readonly width: number
  readonly area: number
  readonly x: number
  readonly y: number
}

function outline(clip: Clip, frame: number, ground: readonly number[], colour: readonly number[]): Outline {
  const { width, height, data } = clip
  const reach = colour.map((value, channel) => value - (ground[channel] as number))
  const square = sum(reach.map((value) => value * value))
  const covered = new Float64Array(width * height)
  let area = 0
  let x = 0
  let y = 0
  for (let pixel = 0; pixel < covered.length; pixel++) {
    const at = 3 * (frame * covered.length + pixel)
    const along = sum(
      reach.map((value, channel) => value * ((data[at + channel] as number) - (ground[channel] as number))),
    )
    const share = Math.min(1, along / square)
    if (share < 0.25) continue
    covered[pixel] = share
    area += share
    x += share * ((pixel % width) + 0.5)
    y += share * (Math.floor(pixel / width) + 0.5)
  }
  return { covered, width, area, x: x / Math.max(area, 1), y: y / Math.max(area, 1) }
}

/** The intersection over union of an outline and a shape drawn with the same centre and area. */
function overlap(shape: Shape, { covered, width, area, x, y }: Outline): number {
  const radius = Math.sqrt(area / Math.PI)
  let both = 0
  let either = 0
  for (let pixel = 0; pixel < covered.length; pixel++) {
    const edge = distance(shape, (pixel % width) + 0.5 - x, Math.floor(pixel / width) + 0.5 - y, radius)
    const drawn = Math.min(1, Math.max(0, 0.5 - edge))
    both += Math.min(drawn, covered[pixel] as number)
    either += Math.max(drawn, covered[pixel] as number)
  }
  return either > 0 ? both / either : 0
}

function edgePixels({ width, height, data }: Clip): number[] {
  const pixels = data.length / 3
  return Array.from({ length: pixels }, (_, pixel) => pixel).filter((pixel) => {
    const column = pixel % width
    const row = Math.floor(pixel / width) % height
    return row === 0 || row === height - 1 || column === 0
  })
}

function medianColour({ data }: Clip, pixels: readonly number[]): number[] {
  return [0, 1, 2].map((channel) => median(pixels.map((pixel) => data[3 * pixel + channel] as number)))
}

function squaredDistance({ data }: Clip, pixel: number, colour: readonly number[]): number {
  return sum(colour.map((value, channel) => ((data[3 * pixel + channel] as number) - value) ** 2))
}

function nearest<Name extends string>(
  colour: readonly number[],
  names: Record<Name, readonly [number, number, number]>,
): Name {
  return least(keys(names), (name) =>
    sum(names[name].map((value, channel) => (value - (colour[channel] as number)) ** 2)),
  )
}

function least<Item>(items: readonly Item[], measure: (item: Item) => number): Item {
  return items.reduce((best, item) => (measure(item) < measure(best) ? item : best))
}

function keys<Name extends string>(record: Record<Name, unknown>): Name[] {
  return Object.keys(record) as Name[]
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] as number
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length
}
