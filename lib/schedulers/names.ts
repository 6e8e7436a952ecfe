import { suggestion } from '../checks/suggestion.js'
import { TorchreelError } from '../errors.js'
import { checkFlowPrediction } from './flow.js'
import type { Scheduler } from './scheduler.js'
import { DDIMScheduler } from './solvers/ddim.js'
import { DDPMScheduler } from './solvers/ddpm.js'
import { DEISMultistepScheduler } from './solvers/deis.js'
import { DPMSolverMultistepScheduler } from './solvers/dpmsolver_multistep.js'
import { DPMSolverSinglestepScheduler } from './solvers/dpmsolver_singlestep.js'
import { EulerDiscreteScheduler } from './solvers/euler.js'
import { EulerAncestralDiscreteScheduler } from './solvers/euler_ancestral.js'
import { FlowMatchEulerDiscreteScheduler } from './solvers/flow_match_euler.js'
import { HeunDiscreteScheduler } from './solvers/heun.js'
import { KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler } from './solvers/kdpm2.js'
import { LCMScheduler } from './solvers/lcm.js'
import { LMSDiscreteScheduler } from './solvers/lms.js'
import { PNDMScheduler } from './solvers/pndm.js'
import { TCDScheduler } from './solvers/tcd.js'
import { UniPCMultistepScheduler } from './solvers/unipc.js'

/** The short names, which the command line accepts too. */
const byName = {
  ddim: DDIMScheduler,
  ddpm: DDPMScheduler,
  deis: DEISMultistepScheduler,
  'dpmsolver-multistep': DPMSolverMultistepScheduler,
  'dpmsolver-singlestep': DPMSolverSinglestepScheduler,
  euler: EulerDiscreteScheduler,
  'euler-ancestral': EulerAncestralDiscreteScheduler,
  'flow-match-euler': FlowMatchEulerDiscreteScheduler,
  heun: HeunDiscreteScheduler,
  kdpm2: KDPM2DiscreteScheduler,
  'kdpm2-ancestral': KDPM2AncestralDiscreteScheduler,
  lcm: LCMScheduler,
  lms: LMSDiscreteScheduler,
  pndm: PNDMScheduler,
  tcd: TCDScheduler,
  unipc: UniPCMultistepScheduler,
}

export type SchedulerName = keyof typeof byName

/** Every short name. */
export const schedulerNames = Object.freeze(Object.keys(byName)) as readonly SchedulerName[]

type SchedulerClass = { readonly name: string; fromConfig(config: object): Scheduler }
const classes: Readonly<Record<string, SchedulerClass>> = byName

/** The class of this name. Undefined for unknown names and for values that are not strings. */
export function classNamed(name: unknown): SchedulerClass | undefined {
  return Object.values(classes).find((schedulerClass) => schedulerClass.name === name)
}

/**
 * Makes a scheduler by its short name (`'euler-ancestral'`) or class name (`'EulerAncestralDiscreteScheduler'`), with the
 * class's `fromConfig`.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for an unknown name, or a value that the class does not accept
 */
export function schedulerFrom(name: string, config: object = {}): Scheduler {
  const found = Object.hasOwn(classes, name) ? classes[name] : classNamed(name)
  if (found !== undefined) return found.fromConfig(config)
  const known = [...schedulerNames, ...Object.values(classes).map((schedulerClass) => schedulerClass.name)]
  const hint = suggestion(String(name), known) || '.'
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `unknown scheduler "${name}"${hint} Use one of ${schedulerNames.join(', ')}, or a class name`,
    { parameter: 'scheduler', expected: `one of ${known.join(', ')}`, received: name },
  )
}

/**
 * Refuses a scheduler that does not fit a model. A caller's own class of scheduler fits any model.
 *
 * @param predictsFlow whether the model was trained by flow matching, as Wan was; else it is a diffusion model
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` that says what fits
 */
export function checkSchedulerFits({ name, config }: Scheduler, predictsFlow: boolean): void {
  if (classNamed(name) === undefined) return
  const flowOnly = name === FlowMatchEulerDiscreteScheduler.name
  const flowPrediction = flowOnly || config.prediction_type === 'flow_prediction'
  if (predictsFlow) checkFlowPrediction(name, { prediction_type: 'flow_prediction' })
  if (predictsFlow ? flowOnly || (flowPrediction && config.use_flow_sigmas === true) : !flowPrediction) return
  const expected = predictsFlow
    ? 'prediction_type "flow_prediction" and use_flow_sigmas true, since this model predicts a flow'
    : 'a scheduler that is not for flows: this model is a diffusion model'
  throw new TorchreelError('ERR_INVALID_ARGUMENT', `${name} does not fit the model; use ${expected}`, {
    parameter: 'scheduler',
    expected,
    received: name,
  })
}
