import { requires } from '../errors.js'
import { stepsTaken } from '../schedulers/scheduler.js'
import type { FittedCall } from './fit_call.js'

/**
 * Guidance scales, one for each call of the network: that of the call's step, and 1 outside of the interval. Second-order
 * solvers call about twice a step. A call that starts from a video runs the last steps only.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for embeddings without those of a negative prompt, which guidance needs
 */
export function guidancePerCall(call: FittedCall, calls: number): Float64Array {
  const { guidanceScale, guidanceInterval: [from, to] = [0, 1], steps, strength = 1 } = call
  const scaleOf = (step: number) => (typeof guidanceScale === 'number' ? guidanceScale : guidanceScale[step])
  const scales = Array.from({ length: steps }, (_, step) => {
    const middle = (step + 0.5) / steps
    return from < middle && middle < to ? (scaleOf(step) as number) : 1
  }).slice(-stepsTaken(steps, strength))
  const guidance = Float64Array.from(
    { length: calls },
    (_, call) => scales[Math.floor((call * scales.length) / calls)] as number,
  )
  if (isGuided(guidance) && call.promptEmbeds && !call.negativePromptEmbeds)
    throw requires(
      'promptEmbeds with guidanceScale above 1 also',
      'negativePromptEmbeds',
      undefined,
      'negativePromptEmbeds',
    )
  return guidance
}

/** Whether any call of the network runs on the negative prompt, too. */
export function isGuided(guidance: Float64Array): boolean {
  return guidance.some((scale) => scale > 1)
}
