// The core's interpreter of denoising programs, against the reference's trajectories and the slow interpreter.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Generator, ProgramBuilder, runProgram, schedulerFrom } from 'torchreel'
import { NativeGenerator } from '#dist/addon/generator.js'
import { expected, expectedTensors, relativeError, type SchedulerCase } from '../support/fixtures.js'
import { float32 } from '../support/safetensors_file.js'

const shape = [1, 4, 4, 4]
const size = 64
const initial = float32(expectedTensors, 'scheduler.initial')
const noises = float32(expectedTensors, 'scheduler.noises')

/** The reference's stand-in network: 0.3 · x + noise number `call`. */
function standIn(input: Float32Array, _timestep: number, call: number): Float32Array {
  const from = (call % 64) * size
  return input.map((value, index) => 0.3 * value + (noises[from + index] as number))
}

function runInCore({ class_name, config, steps, eta, step_seed }: SchedulerCase): Float32Array[] {
  const program = schedulerFrom(class_name, config).program(steps, { eta: eta ?? 0 })
  const calls = program.timesteps.length
  const generator = new NativeGenerator(step_seed)
  const samples = NativeGenerator.runProgram(program.code, initial, shape, standIn, generator, calls)
  return Array.from({ length: calls }, (_, call) => samples.subarray(call * size, (call + 1) * size))
}

describe('trajectories in the core are the reference’s within 1e-5', () => {
  for (const run of expected.schedulers) {
    test(`${run.name}: ${run.class_name}, ${run.steps} steps`, () => {
      const wanted = float32(expectedTensors, `scheduler.${run.name}.trajectory`)
      const samples = runInCore(run)
      assert.equal(samples.length * size, wanted.length)
      for (const [call, sample] of samples.entries()) {
        const reference = wanted.subarray(call * size, (call + 1) * size)
        // Where the reference itself divides by zero there is nothing to compare with.
        if (reference.some(Number.isNaN)) continue
        const error = relativeError(sample, reference)
        assert.ok(error < 1e-5, `call ${call} is ${error} off`)
      }
    })
  }
})

test('every instruction does in the core what it does in the slow interpreter', async () => {
  const builder = new ProgramBuilder()
  const [kept, noise] = [builder.register(), builder.register()]
  builder
    .combine(kept, [[0, 2]])
    .call(957.375, 0.25)
    .clamp(1, 0.4)
    .noise(noise)
  builder.combine(0, [
    [0, 0.5],
    [1, -1.25],
    [kept, 0.125],
    [noise, 0.3],
  ])
  builder
    .threshold(0, 0.7, 1.5)
    .call(3)
    .combine(0, [])
    .combine(0, [[1, 1]])
  const program = builder.build()
  const slow = await runProgram(program, { data: initial, shape }, standIn, new Generator(8))
  const samples = NativeGenerator.runProgram(program.code, initial, shape, standIn, new NativeGenerator(8), 2)
  assert.equal(slow.length, 2)
  for (const [call, sample] of slow.entries()) {
    assert.ok(relativeError(samples.subarray(call * size, (call + 1) * size), sample) < 1e-6, `call ${call}`)
  }
})

test('what the model throws comes out, and a result of another size is refused', () => {
  const { code } = new ProgramBuilder().call(1).build()
  const error = new Error('from the model')
  const throwing = () => {
    throw error
  }
  assert.throws(() => NativeGenerator.runProgram(code, initial, shape, throwing, undefined, 1), error)
  const short = () => new Float32Array(3)
  assert.throws(() => NativeGenerator.runProgram(code, initial, shape, short, undefined, 1), {
    code: 'ERR_INVALID_ARGUMENT',
  })
})
