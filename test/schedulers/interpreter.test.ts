// The interpreter in JavaScript. core_program.test.ts compares the core with it.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  DDIMScheduler,
  type DenoisingProgram,
  EulerAncestralDiscreteScheduler,
  LMSDiscreteScheduler,
  type NoiseSource,
  ProgramBuilder,
  runProgram,
} from 'torchreel'
import { initial } from '../support/scheduler_runs.js'

describe('the interpreter', () => {
  const zero = (input: Float32Array) => input.map(() => 0)
  const run = (program: DenoisingProgram, generator?: NoiseSource) =>
    runProgram(program, initial, zero, generator)
  const invalid = (parameter: string, message: RegExp) => ({
    code: 'ERR_INVALID_ARGUMENT',
    parameter,
    message,
  })
  const withCode = (...code: number[]): DenoisingProgram => ({
    code: Float64Array.from(code),
    registers: 3,
    timesteps: new Float64Array(),
  })

  test('runs each instruction as written', async () => {
    const builder = new ProgramBuilder()
    const other = builder.register()
    builder.call(7, 2).combine(other, [
      [0, 3],
      [1, 1],
    ])
    builder.clamp(other, 0.5).combine(0, [[other, 4]])
    builder.call(3).combine(other, [[0, 1]])
    builder.threshold(0, 1, 1.25)
    const sample = { data: Float32Array.from([1, -1, 0.1, 0]), shape: [2, 1, 1, 2] }
    const seen: unknown[] = []
    const trajectory = await runProgram(builder.build(), sample, (input, timestep, call) => {
      seen.push([[...input], timestep, call])
      return input.map((value) => -value)
    })
    assert.deepEqual(seen, [
      [[2, -2, Math.fround(0.2), 0], 7, 0],
      [[2, -2, Math.fround(0.4), 0], 3, 1],
    ])
    assert.deepEqual([...(trajectory[0] as Float32Array)], [2, -2, Math.fround(0.4), 0])
    assert.deepEqual([...(trajectory[1] as Float32Array)], [1, -1, Math.fround(0.4), 0])
    assert.deepEqual([...sample.data], [1, -1, Math.fround(0.1), 0])
  })

  test('needs a generator only for noise, and checks it before the first call', async () => {
    const ancestral = new EulerAncestralDiscreteScheduler().program(3)
    let calls = 0
    const counting = (input: Float32Array) => {
      calls++
      return input
    }
    await assert.rejects(runProgram(ancestral, initial, counting), invalid('generator', /draws noise/))
    assert.equal(calls, 0)
    assert.equal((await run(new LMSDiscreteScheduler().program(3))).length, 3)
  })

  test('rejects malformed programs', async () => {
    const program = (message: RegExp) => invalid('program', message)
    await assert.rejects(run(withCode(9)), program(/9 is not an instruction/))
    await assert.rejects(run(withCode(1, 0, 2, 0, 1)), program(/2 terms exceeds its code/))
    await assert.rejects(run(withCode(1, 0, -1)), program(/-1 terms/))
    await assert.rejects(run(withCode(1, 3, 1, 0, 1)), program(/3 is not one of its 3 registers/))
    await assert.rejects(run(withCode(1, 0.5, 1, 0, 1)), program(/0.5 is not one of its 3 registers/))
    await assert.rejects(run(withCode(1, 0, 1, 2, 1)), program(/register 2 before writing it/))
    await assert.rejects(run(withCode(1, 0, 1, 1, 1)), program(/register 1 before writing it/))
    await assert.rejects(run(withCode(1, 0, 1, 0, Number.NaN)), program(/contains NaN/))
    await assert.rejects(run(withCode(3, 0)), program(/last instruction is incomplete/))
    await assert.rejects(run(withCode(0, 5, 1)), program(/timesteps/))
  })

  test('rejects a sample or an output of the wrong size', async () => {
    const program = new DDIMScheduler().program(2)
    await assert.rejects(
      runProgram(program, { data: new Float32Array(3), shape: initial.shape }, zero),
      invalid('sample', /64 values/),
    )
    await assert.rejects(
      runProgram(program, initial, () => new Float32Array(1)),
      invalid('model', /64 values/),
    )
  })
})
