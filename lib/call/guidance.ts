import type { CheckedGenerateOptions } from '../options/call.js'
import { stepsTaken } from '../schedulers/scheduler.js'

/**
 * A scale per step, 1 outside of the interval, becomes one per call of the network: solvers of second order call it about
 * twice a step. From a video only the last steps are taken.
 */
export function guidancePerCall(
  { guidanceScale, guidanceInterval: [from, to] = [0, 1], steps, strength = 1 }: CheckedGenerateOptions,
  calls: number,
): Float64Array {
  const scaleOf = (step: number) => (typeof guidanceScale === 'number' ? guidanceScale : guidanceScale[step])
  const scales = Array.from({ length: steps }, (_, step) => {
    const middle = (step + 0.5) / steps
    return from < middle && middle < to ? (scaleOf(step) as number) : 1
  }).slice(-stepsTaken(steps, strength))
  return Float64Array.from(
    { length: calls },
    (_, call) => scales[Math.floor((call * scales.length) / calls)] as number,
  )
}
