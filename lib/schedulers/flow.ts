import { requires, TorchreelError } from '../errors.js'

/** The schedulers that can run a model which predicts a flow, by their short names. */
const flowSchedulers = {
  'flow-match-euler': 'FlowMatchEulerDiscreteScheduler',
  unipc: 'UniPCMultistepScheduler',
  'dpmsolver-multistep': 'DPMSolverMultistepScheduler',
  'dpmsolver-singlestep': 'DPMSolverSinglestepScheduler',
  deis: 'DEISMultistepScheduler',
} as const

/** Refuses `prediction_type` "flow_prediction" for a class that has no formulas for it. */
export function checkFlowPrediction(name: string, config: { readonly prediction_type?: unknown }): void {
  if (config.prediction_type !== 'flow_prediction') return
  if ((Object.values(flowSchedulers) as string[]).includes(name)) return
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `${name} cannot run a model that predicts a flow; use one of ${Object.keys(flowSchedulers).join(', ')}`,
    {
      parameter: 'scheduler',
      expected: `one of ${Object.values(flowSchedulers).join(', ')}`,
      received: name,
    },
  )
}

/**
 * The `prediction_type` that the config of a flow-matching class stands for. Such a config, as diffusers writes it, has no
 * such key.
 */
export function impliedPrediction(config: object): { readonly prediction_type?: 'flow_prediction' } {
  const { _class_name } = config as { readonly _class_name?: unknown }
  return typeof _class_name === 'string' && _class_name.startsWith('FlowMatch')
    ? { prediction_type: 'flow_prediction' }
    : {}
}

interface ShiftConfig {
  readonly use_dynamic_shifting: boolean
  readonly time_shift_type: 'exponential' | 'linear'
}

/**
 * The shift of a run: the config's own, or with `use_dynamic_shifting` the one that the caller's μ stands for.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` where the config needs a μ and there is none
 */
export function runShift(
  { use_dynamic_shifting, time_shift_type }: ShiftConfig,
  shift: number,
  { mu }: { readonly mu: number | undefined },
): number {
  if (!use_dynamic_shifting) return shift
  if (mu === undefined) throw requires('a config with use_dynamic_shifting', 'mu', mu, 'mu')
  return time_shift_type === 'linear' ? mu : Math.exp(mu)
}

/**
 * A flow's σ, moved towards noise by a shift above 1: Esser et al. 2024, https://arxiv.org/abs/2403.03206, equation 23.
 *
 * @param round rounds each result; for tables that the reference computes in float32
 */
export function shiftSigma(sigma: number, shift: number, round = (value: number) => value): number {
  return round(round(round(shift) * sigma) / round(1 + round(round(shift - 1) * sigma)))
}

/** The σ stretched so that the last one becomes `terminal`. Only 1 stays where it is. */
export function stretchToTerminal(sigmas: readonly number[], terminal: number): number[] {
  const scale = (1 - (sigmas.at(-1) as number)) / (1 - terminal)
  return sigmas.map((sigma) => 1 - (1 - sigma) / scale)
}
