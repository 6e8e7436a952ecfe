// Runs from latents (strength), and with the caller's timesteps and σ: trajectories equal diffusers'.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { EulerDiscreteScheduler, Generator, type ProgramOptions, runProgram, schedulerFrom } from 'torchreel'
import { relativeError, repository } from '../support/fixtures.js'
import { float32, readSafetensors } from '../support/safetensors_file.js'
import { checkpointConfig, diffusionSchedulers, initial, runStandIn } from '../support/scheduler_runs.js'

interface SchedulerRun extends ProgramOptions {
  name: string
  class_name: string
  /** The values that differ from the checkpoint's. */
  config: Record<string, unknown>
  steps: number
  seed: number
  /** The timestep of each call. */
  calls: number[]
}

const fixtures = `${repository}test/fixtures/scheduler_runs`
const runs = JSON.parse(readFileSync(`${fixtures}.json`, 'utf8')) as SchedulerRun[]
const trajectories = readSafetensors(`${fixtures}.safetensors`)
const size = initial.data.length

describe('[schedules] trajectories are those of diffusers', () => {
  for (const { name, class_name, config, steps, seed, calls, ...options } of runs) {
    const { strength, timesteps, sigmas, eta } = options
    const what = strength === undefined ? 'own spacing' : `strength ${strength}`
    test(`${name}: ${what}`, async () => {
      const program = schedulerFrom(class_name, { ...checkpointConfig, ...config }).program(steps, {
        strength,
        timesteps,
        sigmas,
        eta,
      })
      assert.equal(program.timesteps.length, calls.length)
      for (const [i, timestep] of calls.entries()) {
        assert.ok(Math.abs((program.timesteps[i] as number) - timestep) < 1e-3, `timestep ${i}`)
      }
      const actual = await runStandIn(program, seed)
      const wanted = float32(trajectories, name)
      assert.equal(actual.length * size, wanted.length)
      for (const [call, sample] of actual.entries()) {
        const error = relativeError(sample, wanted.subarray(call * size, (call + 1) * size))
        assert.ok(error < 1e-5, `call ${call}: relative error ${error}`)
      }
    })
  }

  test('every scheduler is included', () => {
    const names = new Set(runs.map((run) => run.class_name))
    for (const name of diffusionSchedulers) assert.ok(names.has(schedulerFrom(name).name), name)
  })
})

describe('options that a scheduler rejects', () => {
  const scheduler = new EulerDiscreteScheduler()
  for (const [parameter, steps, options] of [
    ['strength', 10, { strength: 0.05 }],
    ['strength', 10, { strength: 1.1 }],
    ['strength', 10, { strength: Number.NaN }],
    ['timesteps', 3, { timesteps: [900, 500] }],
    ['timesteps', 2, { timesteps: [500, 900] }],
    ['timesteps', 2, { timesteps: [1000, 500] }],
    ['timesteps', 2, { timesteps: [900.5, 500] }],
    ['timesteps', 2, { timesteps: [900, 500], sigmas: [10, 1, 0] }],
    ['sigmas', 2, { sigmas: [10, 1] }],
    ['sigmas', 2, { sigmas: [1, 10, 0] }],
  ] as const satisfies readonly (readonly [string, number, ProgramOptions])[]) {
    test(`${steps} steps of ${JSON.stringify(options)}`, () => {
      assert.throws(() => scheduler.program(steps, options), { code: 'ERR_INVALID_ARGUMENT', parameter })
    })
  }

  test('timesteps and sigmas, if the reference does not accept them or the config spaces them', () => {
    const timesteps = [900, 500]
    for (const refusing of [schedulerFrom('ddim'), new EulerDiscreteScheduler({ use_karras_sigmas: true })]) {
      assert.throws(() => refusing.program(2, { timesteps }), { parameter: 'timesteps' })
    }
    for (const name of ['ddim', 'unipc']) {
      assert.throws(() => schedulerFrom(name).program(2, { sigmas: [0.9, 0.5, 0] }), { parameter: 'sigmas' })
    }
  })

  test('strength, if PNDM starts with Runge-Kutta steps', () => {
    const options = { strength: 0.5 }
    assert.throws(() => schedulerFrom('pndm').program(10, options), { parameter: 'strength' })
    assert.ok(schedulerFrom('pndm', { skip_prk_steps: true }).program(10, options))
  })
})

test('with one step from latents at full strength, the network gets almost pure noise', async () => {
  const program = schedulerFrom('ddim', { timestep_spacing: 'trailing' }).program(1, { strength: 1 })
  const inputs: Float32Array[] = []
  const zero = { data: new Float32Array(size), shape: initial.shape }
  const network = (input: Float32Array) => {
    inputs.push(input)
    return input
  }
  await runProgram(program, zero, network, new Generator(3))
  const noise = new Generator(3).randn(initial.shape)
  assert.ok(relativeError(inputs[0] as Float32Array, noise) < 0.01)
})
