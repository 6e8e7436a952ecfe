import path from 'node:path'
import type { CompiledDenoiser } from '../checkpoint/compiled_denoiser.js'
import { invalidArgument } from '../errors.js'
import type { SourceWishes } from '../video/read/source_video.js'
import type { FittedCall } from './fit_call.js'

// A compiled denoiser runs one kind of call: the others are refused here.

type Package = Pick<CompiledDenoiser, 'file' | 'made'>

function refuseUnless(
  { file }: Package,
  fits: boolean,
  parameter: string,
  expected: string,
  received: unknown,
): void {
  if (!fits)
    throw invalidArgument(parameter, `${expected} with compiledDenoiser ${path.basename(file)}`, received)
}

/**
 * Refuses a call that does not run the network in the one way that is compiled, whatever its size.
 *
 * @param guidance of each call of the network
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function requireCompiledCall(
  compiled: Package,
  call: FittedCall,
  guidance: Float64Array,
  positions: number,
): void {
  const { made } = compiled
  const { videos, promptEmbeds, freeU, featureCache, guidanceInterval } = call
  const tokens = promptEmbeds?.shape[1] ?? positions
  refuseUnless(compiled, videos === 1, 'prompt', 'one prompt', videos)
  refuseUnless(compiled, tokens === made.tokens, 'promptEmbeds', `of ${made.tokens} tokens`, tokens)
  const guided = `${made.guidance ? 'above' : 'at most'} 1 in all steps`
  const other = guidance.find((scale) => scale > 1 !== made.guidance)
  if (guidanceInterval)
    refuseUnless(compiled, other === undefined, 'guidanceInterval', 'left out', guidanceInterval)
  refuseUnless(compiled, other === undefined, 'guidanceScale', guided, other)
  refuseUnless(compiled, freeU === undefined, 'freeU', 'left out', freeU)
  refuseUnless(compiled, featureCache === 1, 'featureCache', '1 or left out', featureCache)
}

/**
 * Refuses a call that has not the size that is compiled.
 *
 * @param call undefined in it: what the video will say that the call starts from
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function requireCompiledSize(
  compiled: Package,
  { frames, width, height, window }: SourceWishes & Pick<FittedCall, 'window'>,
): void {
  const { made } = compiled
  const seen = frames && Math.min(window?.frames ?? frames, frames)
  refuseUnless(
    compiled,
    (seen ?? made.frames) === made.frames,
    window ? 'window' : 'frames',
    `${made.frames}`,
    seen,
  )
  refuseUnless(compiled, (width ?? made.width) === made.width, 'width', `${made.width}`, width)
  refuseUnless(compiled, (height ?? made.height) === made.height, 'height', `${made.height}`, height)
}
