import { types } from 'node:util'
import { invalidArgument, requires } from '../errors.js'
import { type DenoisingProgram, decodeProgram, OUTPUT, SAMPLE } from './program.js'

/** The sample: N frames of (C, h, w), flat in that order. */
export interface Sample {
  readonly data: Float32Array
  /** (N, C, h, w) */
  readonly shape: readonly number[]
}

/** Stands for the network: a program calls it for each output. `call` counts from 0. */
export type Model = (
  input: Float32Array,
  timestep: number,
  call: number,
) => Float32Array | Promise<Float32Array>

/** A source of standard normal noise. */
export interface NoiseSource {
  randn(shape: readonly number[]): Float32Array
}

/**
 * Runs a program in the slow, obvious way. The core does the same on the device. Use it in tests, and to inspect a scheduler.
 *
 * @param sample The initial noise. It is not changed.
 * @returns The sample before each call but the first, and at the end.
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a malformed program, or one that draws noise without a `generator`
 */
export async function runProgram(
  program: DenoisingProgram,
  sample: Sample,
  model: Model,
  generator?: NoiseSource,
): Promise<Float32Array[]> {
  const steps = decodeProgram(program)
  const size = sample.shape.reduce((product, length) => product * length, 1)
  if (sample.data.length !== size) {
    throw invalidArgument(
      'sample',
      `${size} values for its shape (${sample.shape.join(', ')})`,
      sample.data.length,
    )
  }
  if (generator === undefined && steps.some((step) => step.kind === 'noise')) {
    throw requires('a program that draws noise', 'a generator', generator, 'generator')
  }
  const registers = Array.from({ length: program.registers }, () => new Float32Array(size))
  const at = (register: number) => registers[register] as Float32Array
  at(SAMPLE).set(sample.data)
  const trajectory: Float32Array[] = []
  let calls = 0
  for (const step of steps) {
    switch (step.kind) {
      case 'call': {
        if (calls > 0) trajectory.push(at(SAMPLE).slice())
        const input = at(SAMPLE).map((value) => value * step.scale)
        at(OUTPUT).set(exactly(size, 'model', await model(input, step.timestep, calls++)))
        break
      }
      case 'combine': {
        const { terms } = step
        registers[step.target] = at(SAMPLE).map((_, i) =>
          terms.reduce((sum, [register, coefficient]) => sum + coefficient * (at(register)[i] as number), 0),
        )
        break
      }
      case 'noise':
        at(step.target).set(exactly(size, 'generator', (generator as NoiseSource).randn(sample.shape)))
        break
      case 'clamp':
        registers[step.target] = at(step.target).map((value) =>
          Math.min(Math.max(value, -step.limit), step.limit),
        )
        break
      case 'threshold': {
        const frame = size / (sample.shape[0] as number)
        for (let start = 0; start < size; start += frame) {
          threshold(at(step.target).subarray(start, start + frame), step.ratio, step.maximum)
        }
      }
    }
  }
  if (calls > 0) trajectory.push(at(SAMPLE).slice())
  return trajectory
}

/** In place, over one frame. */
function threshold(values: Float32Array, ratio: number, maximum: number): void {
  const sorted = values.map(Math.abs).sort()
  const rank = Math.fround(ratio * (sorted.length - 1))
  const low = sorted[Math.floor(rank)] as number
  const high = sorted[Math.ceil(rank)] as number
  const limit = Math.fround(Math.min(Math.max(low + (high - low) * (rank - Math.floor(rank)), 1), maximum))
  values.forEach((value, i) => {
    values[i] = Math.min(Math.max(value, -limit), limit) / limit
  })
}

function exactly(size: number, parameter: string, values: Float32Array): Float32Array {
  if (!types.isFloat32Array(values) || values.length !== size) {
    throw invalidArgument(
      parameter,
      `a function or source that returns a Float32Array of ${size} values`,
      values,
    )
  }
  return values
}
