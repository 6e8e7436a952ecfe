import type { CompiledDenoiser } from '../checkpoint/compiled_denoiser.js'
import type { ModelProperties } from '../families/family.js'
import { checkSchedulerFits } from '../schedulers/names.js'
import { type DenoisingProgram, decodeProgram } from '../schedulers/program.js'
import type { Scheduler } from '../schedulers/scheduler.js'
import { requireCompiledCall, requireCompiledSize } from './compiled_checks.js'
import type { FittedCall } from './fit_call.js'
import { guidancePerCall } from './guidance.js'

/** The steps of a call. */
export interface StepPlan {
  readonly scheduler: Scheduler
  readonly program: DenoisingProgram
  /** A scale for each call of the network. */
  readonly guidance: Float64Array
}

/**
 * Plans the steps of a call, before its turn.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for steps that the scheduler, guidance or a compiled denoiser cannot do
 */
export function planSteps(
  call: FittedCall,
  scheduler: Scheduler,
  model: {
    readonly properties: ModelProperties
    readonly compiledDenoiser: Pick<CompiledDenoiser, 'file' | 'made'> | undefined
  },
): StepPlan {
  const { steps, eta, strength, timesteps, sigmas } = call
  checkSchedulerFits(scheduler, model.properties.family.predictsFlow)
  const program = scheduler.program(steps, { eta, strength, timesteps, sigmas })
  decodeProgram(program) // refuses one that the core would refuse
  const guidance = guidancePerCall(call, program.timesteps.length)
  const { compiledDenoiser, properties } = model
  if (compiledDenoiser) {
    requireCompiledCall(compiledDenoiser, call, guidance, properties.positions)
    requireCompiledSize(compiledDenoiser, call)
  }
  return { scheduler, program, guidance }
}
