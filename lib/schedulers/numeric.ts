// Numbers as numpy makes them.

/** `count` numbers from `start` to `stop`, both among them. */
export function linspace(start: number, stop: number, count: number): number[] {
  const step = (stop - start) / (count - 1)
  return Array.from({ length: count }, (_, i) =>
    i > 0 && i === count - 1 ? stop : i === 0 ? start : i * step + start,
  )
}

/** Round half to even, as IEEE 754 and numpy do. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

/** The table's value at a position between its entries; the first or last value outside it. */
export function interpolate(table: Float32Array, position: number): number {
  const last = table.length - 1
  if (position <= 0) return table[0] as number
  if (position >= last) return table[last] as number
  const low = Math.floor(position)
  const from = table[low] as number
  return ((table[low + 1] as number) - from) * (position - low) + from
}
