import { types } from 'node:util'
import { invalidArgument, TorchreelError } from '../errors.js'

/**
 * A denoising program, which a scheduler makes from its config and a number of steps. Once these are known, every solver
 * is a fixed list of linear combinations of the sample, earlier model outputs and fresh noise. The core runs programs
 * and knows no scheduler.
 *
 * `code` is a flat list of instructions over registers that hold tensors of the sample's shape:
 *
 *     CALL      0, timestep, scale                          output ← network(scale · sample, timestep), guided
 *     COMBINE   1, target, n, (register, coefficient) × n   target ← Σ coefficient · register
 *     NOISE     2, target                                   target ← the generator's next standard normal draw
 *     CLAMP     3, target, limit                            target ← min(max(target, −limit), limit)
 *     THRESHOLD 4, target, ratio, maximum                   dynamic thresholding, see {@link ProgramBuilder.threshold}
 *
 * Register 0 is the sample, register 1 the output of the last CALL. All others, up to 64 in total, are free for the program. The
 * sample starts as standard normal noise, or as latents if the run starts from latents. It ends as the denoised latents.
 * Coefficients are computed in float64 and applied in float32, for every dtype of the network.
 */
export interface DenoisingProgram {
  readonly code: Float64Array
  /** The number of registers that `code` uses, including sample and output. */
  readonly registers: number
  /** The timestep of each CALL, in order. */
  readonly timesteps: Float64Array
}

export const SAMPLE = 0
export const OUTPUT = 1

export const Instruction = { call: 0, combine: 1, noise: 2, clamp: 3, threshold: 4 } as const

/** One term of a linear combination: a register and its coefficient. */
export type Term = readonly [register: number, coefficient: number]

/** Writes a {@link DenoisingProgram} instruction by instruction. */
export class ProgramBuilder {
  readonly #code: number[] = []
  readonly #timesteps: number[] = []
  #registers = 2

  /** Returns a new register. */
  register(): number {
    return this.#registers++
  }

  /** output ← network(scale · sample, timestep). The timestep may be fractional. */
  call(timestep: number, scale = 1): this {
    this.#code.push(Instruction.call, timestep, scale)
    this.#timesteps.push(timestep)
    return this
  }

  /** target ← Σ coefficient · register. The target may be one of the terms. Terms with coefficient 0 are left out. */
  combine(target: number, terms: readonly Term[]): this {
    const kept = terms.filter(([, coefficient]) => coefficient !== 0)
    this.#code.push(Instruction.combine, target, kept.length, ...kept.flat())
    return this
  }

  /** target ← fresh standard normal noise, drawn per frame as (B·F, C, h, w). */
  noise(target: number): this {
    this.#code.push(Instruction.noise, target)
    return this
  }

  /** target ← target clamped to [−limit, limit]. */
  clamp(target: number, limit: number): this {
    this.#code.push(Instruction.clamp, target, limit)
    return this
  }

  /**
   * Dynamic thresholding (Saharia et al. 2022, Imagen, section 2.3), frame by frame: s is the `ratio` quantile of |x|,
   * limited to [1, maximum]; x ← min(max(x, −s), s) / s.
   */
  threshold(target: number, ratio: number, maximum: number): this {
    this.#code.push(Instruction.threshold, target, ratio, maximum)
    return this
  }

  build(): DenoisingProgram {
    const code = Float64Array.from(this.#code)
    const bad = code.findIndex((value) => !Number.isFinite(value))
    if (bad >= 0) {
      throw new TorchreelError(
        'ERR_NUMERIC',
        `the scheduler's program contains ${code[bad]} at position ${bad}`,
      )
    }
    return { code, registers: this.#registers, timesteps: Float64Array.from(this.#timesteps) }
  }
}

/** One instruction. */
export type Step =
  | { readonly kind: 'call'; readonly timestep: number; readonly scale: number }
  | { readonly kind: 'combine'; readonly target: number; readonly terms: readonly Term[] }
  | { readonly kind: 'noise'; readonly target: number }
  | { readonly kind: 'clamp'; readonly target: number; readonly limit: number }
  | { readonly kind: 'threshold'; readonly target: number; readonly ratio: number; readonly maximum: number }

/** The core's limit. */
const maxRegisters = 64

/**
 * Decodes a program into instructions. The program may come from the user, so everything that the core relies on is checked.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` with the position at which the program is malformed
 */
export function decodeProgram(program: DenoisingProgram): Step[] {
  const { code, registers, timesteps } = program ?? {}
  if (!types.isFloat64Array(code) || !types.isFloat64Array(timesteps)) {
    throw invalidArgument('program', 'one whose code and timesteps are Float64Arrays', program)
  }
  let position = 0
  const fail = (what: string): never => {
    throw new TorchreelError(
      'ERR_INVALID_ARGUMENT',
      `program: ${what}, at position ${position} of its code`,
      {
        parameter: 'program',
      },
    )
  }
  if (!Number.isInteger(registers) || registers < 2 || registers > maxRegisters) {
    fail(`it must have 2 to ${maxRegisters} registers, not ${registers}`)
  }

  const number = (): number => {
    if (position >= code.length) fail('its last instruction is incomplete')
    const value = code[position++] as number
    return Number.isFinite(value) ? value : fail(`it contains ${value}`)
  }
  const register = (): number => {
    const value = number()
    const valid = Number.isInteger(value) && value >= 0 && value < registers
    return valid ? value : fail(`${value} is not one of its ${registers} registers`)
  }
  const written = new Set([SAMPLE])
  const read = (value: number): number =>
    written.has(value) ? value : fail(`it reads register ${value} before writing it`)

  const steps: Step[] = []
  const calls: number[] = []
  while (position < code.length) {
    const opcode = number()
    if (opcode === Instruction.call) {
      const step = { kind: 'call', timestep: number(), scale: number() } as const
      steps.push(step)
      calls.push(step.timestep)
      written.add(OUTPUT)
    } else if (opcode === Instruction.combine) {
      const target = register()
      const count = number()
      if (!Number.isInteger(count) || count < 0 || 2 * count > code.length - position) {
        fail(`a combination of ${count} terms exceeds its code`)
      }
      const terms = Array.from({ length: count }, (): Term => [read(register()), number()])
      steps.push({ kind: 'combine', target, terms })
      written.add(target)
    } else if (opcode === Instruction.noise) {
      const target = register()
      steps.push({ kind: 'noise', target })
      written.add(target)
    } else if (opcode === Instruction.clamp) {
      const step = { kind: 'clamp', target: read(register()), limit: number() } as const
      if (step.limit < 0) fail(`a clamp's limit is ${step.limit}, below 0`)
      steps.push(step)
    } else if (opcode === Instruction.threshold) {
      const target = read(register())
      const step = { kind: 'threshold', target, ratio: number(), maximum: number() } as const
      if (step.ratio < 0 || step.ratio > 1) fail(`a threshold's ratio is ${step.ratio}, not from 0 to 1`)
      if (step.maximum < 1) fail(`a threshold's maximum is ${step.maximum}, below 1`)
      steps.push(step)
    } else {
      fail(`${opcode} is not an instruction`)
    }
  }
  if (calls.length === 0) fail('it never calls the network')
  if (calls.length !== timesteps.length || calls.some((timestep, i) => timestep !== timesteps[i])) {
    fail('its timesteps differ from those of its calls')
  }
  return steps
}
