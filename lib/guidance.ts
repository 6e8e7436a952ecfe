import type { CheckedGenerateOptions } from './options.js'
import { stepsTaken } from './schedulers/scheduler.js'

/**
 * A scale per step becomes one per call of the network: solvers of second order call it about twice a step. From a video
 * only the last steps are taken.
 */
export function guidancePerCall(
  { guidanceScale, steps, strength = 1 }: CheckedGenerateOptions,
  calls: number,
): Float64Array {
  if (typeof guidanceScale === 'number') return new Float64Array(calls).fill(guidanceScale)
  const scales = guidanceScale.slice(-stepsTaken(steps, strength))
  return Float64Array.from(
    { length: calls },
    (_, call) => scales[Math.floor((call * scales.length) / calls)] as number,
  )
}
