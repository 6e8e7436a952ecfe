// Schedulers of models that predict a flow: σ and timesteps of FlowMatchEulerDiscreteScheduler, and the trajectories of all
// that can run such models, are diffusers'. The others are refused.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import {
  checkSchedulerFits,
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  FlowMatchEulerDiscreteScheduler,
  type ProgramOptions,
  runProgram,
  type Scheduler,
  schedulerFrom,
  schedulerNames,
  TextToVideoPipeline,
  TorchreelError,
  UniPCMultistepScheduler,
} from 'torchreel'
import { decodeProgram } from '#dist/schedulers/program.js'
import { relativeError, repository, tinyCheckpoint } from '../support/fixtures.js'
import { float32, readSafetensors } from '../support/safetensors_file.js'
import {
  anyNoise,
  checkpointConfig,
  diffusionSchedulers,
  initial,
  runStandIn,
} from '../support/scheduler_runs.js'

interface Spacing extends ProgramOptions {
  config: Record<string, unknown>
  steps: number
  /** The timestep of each call. */
  calls: number[]
  /** σ at each call and at the end. */
  levels: number[]
}

interface FlowRun extends ProgramOptions {
  name: string
  class_name: string
  config: Record<string, unknown>
  steps: number
  seed: number
  calls: number[]
}

const fixtures = `${repository}test/fixtures/flow_schedulers`
const { spacings, runs } = JSON.parse(readFileSync(`${fixtures}.json`, 'utf8')) as {
  spacings: Spacing[]
  runs: FlowRun[]
}
const trajectories = readSafetensors(`${fixtures}.safetensors`)
const size = initial.data.length

const flowSchedulers = ['deis', 'dpmsolver-multistep', 'dpmsolver-singlestep', 'flow-match-euler', 'unipc']
const flow = { prediction_type: 'flow_prediction', use_flow_sigmas: true, flow_shift: 3 } as const

function close(actual: number, wanted: number, what: string): void {
  const error = Math.abs(actual - wanted) / Math.max(1, Math.abs(wanted))
  assert.ok(error < 1e-6, `${what}: ${actual}, not ${wanted}`)
}

describe('FlowMatchEuler: timesteps and σ are those of diffusers', () => {
  for (const { config, steps, calls, levels, ...options } of spacings) {
    const { mu, timesteps, sigmas } = options
    test(`${steps} steps of ${JSON.stringify({ ...config, ...options })}`, () => {
      const program = new FlowMatchEulerDiscreteScheduler(config).program(steps, { mu, timesteps, sigmas })
      assert.equal(program.timesteps.length, calls.length)
      for (const [i, timestep] of calls.entries())
        close(program.timesteps[i] as number, timestep, `timestep ${i}`)
      // Each step adds the network's output times the way from one σ to the next.
      const updates = decodeProgram(program).filter((step) => step.kind === 'combine')
      assert.equal(updates.length, levels.length - 1)
      for (const [i, { terms }] of updates.entries()) {
        const way = (levels[i + 1] as number) - (levels[i] as number)
        close(terms.find(([register]) => register === 1)?.[1] ?? 0, way, `step ${i}`)
      }
    })
  }
})

describe('trajectories are those of diffusers', () => {
  for (const { name, class_name, config, steps, seed, calls, ...options } of runs) {
    const { strength, timesteps, sigmas, mu } = options
    test(`${class_name}, ${steps} steps of ${JSON.stringify({ ...config, ...options })}`, async () => {
      const program = schedulerFrom(class_name, config).program(steps, { strength, timesteps, sigmas, mu })
      assert.equal(program.timesteps.length, calls.length)
      for (const [i, timestep] of calls.entries())
        close(program.timesteps[i] as number, timestep, `timestep ${i}`)
      const actual = await runStandIn(program, seed)
      const wanted = float32(trajectories, name)
      assert.equal(actual.length * size, wanted.length)
      for (const [call, sample] of actual.entries()) {
        const error = relativeError(sample, wanted.subarray(call * size, (call + 1) * size))
        // DEIS divides by α, which is near 0 at first, and both sides compute in float32.
        const bound = class_name.startsWith('DEIS') ? 1e-4 : 1e-5
        assert.ok(error < bound, `call ${call}: relative error ${error}`)
      }
    })
  }

  test('every option of FlowMatchEuler is among them', () => {
    const tried = new Set(
      runs
        .filter(({ class_name }) => class_name.startsWith('Flow'))
        .flatMap(({ config }) => Object.keys(config)),
    )
    const options = Object.keys(new FlowMatchEulerDiscreteScheduler().config)
    assert.deepEqual(
      options.filter((option) => !tried.has(option)),
      ['prediction_type'],
    )
  })

  test('every scheduler that can run a flow is among them', () => {
    const tried = new Set(runs.map(({ class_name }) => class_name))
    for (const name of flowSchedulers) assert.ok(tried.has(schedulerFrom(name).name), name)
  })
})

describe('laws', () => {
  const x0 = Float32Array.from({ length: size }, (_, i) => Math.sin(i))
  /** The velocity ε − x_0 of a network that knows x_0. */
  const knowing = (input: Float32Array, timestep: number) =>
    input.map((x, i) => (x - (x0[i] as number)) / (timestep / 1000))

  for (const name of flowSchedulers) {
    for (const options of [{}, { strength: 0.7 }] as const) {
      test(`${name} ${JSON.stringify(options)}: a network that knows x_0 leads there`, async () => {
        // DEIS rests in its last step, at the smallest σ.
        const scheduler = schedulerFrom(name, flow)
        const program = scheduler.program(30, options)
        const end = (await runProgram(program, initial, knowing, anyNoise())).at(-1) as Float32Array
        assert.ok(relativeError(end, x0) < (name === 'deis' ? 0.2 : 0.01), `${relativeError(end, x0)}`)
      })
    }
  }

  test('stochastic sampling draws once a step, but not for the last', () => {
    const program = new FlowMatchEulerDiscreteScheduler({ stochastic_sampling: true }).program(5)
    assert.equal(decodeProgram(program).filter(({ kind }) => kind === 'noise').length, 4)
  })

  test('timesteps fall, and programs are pure', () => {
    for (const shift of [0.5, 1, 3, 16]) {
      const scheduler = new FlowMatchEulerDiscreteScheduler({ shift })
      const program = scheduler.program(50)
      assert.ok(
        program.timesteps.every((timestep, i) => i === 0 || timestep < (program.timesteps[i - 1] as number)),
      )
      assert.deepEqual(scheduler.program(50), program)
    }
  })
})

describe('configs', () => {
  test('a flow-matching config says that the model predicts a flow, whoever wrote it', () => {
    const file = { _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 5 }
    assert.equal(UniPCMultistepScheduler.fromConfig(file).config.prediction_type, 'flow_prediction')
    assert.equal(FlowMatchEulerDiscreteScheduler.fromConfig(file).config.shift, 5)
    const own = new FlowMatchEulerDiscreteScheduler({ shift: 5 }).config
    assert.equal(UniPCMultistepScheduler.fromConfig(own).config.prediction_type, 'flow_prediction')
    assert.equal(JSON.parse(JSON.stringify(own)).prediction_type, 'flow_prediction')
  })

  test("UniPC's shift is not FlowMatchEuler's, as in the reference", () => {
    const { config } = FlowMatchEulerDiscreteScheduler.fromConfig(new UniPCMultistepScheduler(flow).config)
    assert.equal(config.shift, 1)
    assert.equal(UniPCMultistepScheduler.fromConfig(config).config.flow_shift, 3)
  })

  const refuses = (parameter: string, action: () => unknown, message: RegExp) =>
    assert.throws(action, (error: unknown) => {
      assert.ok(error instanceof TorchreelError)
      assert.equal(error.code, 'ERR_INVALID_ARGUMENT')
      assert.equal(error.parameter, parameter)
      assert.match(error.message, message)
      return true
    })

  for (const name of schedulerNames) {
    const able = flowSchedulers.includes(name)
    test(`${name}: ${able ? 'accepts' : 'refuses'} the config of a flow model`, () => {
      const files = [
        flow,
        { _class_name: 'FlowMatchEulerDiscreteScheduler' },
        { _class_name: 'FlowMatchHeunDiscreteScheduler' },
      ]
      for (const config of files) {
        if (able) assert.ok(schedulerFrom(name, config))
        else
          refuses(
            'scheduler',
            () => schedulerFrom(name, config),
            new RegExp(`^${schedulerFrom(name).name} cannot .*flow-match-euler, unipc, dpmsolver-multistep`),
          )
      }
    })

    test(`${name}: ${able ? 'fits' : 'does not fit'} a flow model`, () => {
      const scheduler = schedulerFrom(name, able ? flow : {})
      if (able) checkSchedulerFits(scheduler, true)
      else refuses('scheduler', () => checkSchedulerFits(scheduler, true), new RegExp(scheduler.name))
    })
  }

  test('a scheduler that could run a flow, but is not set to, does not fit a flow model', () => {
    for (const config of [{}, { prediction_type: 'flow_prediction' }, { use_flow_sigmas: true }] as const) {
      const scheduler = new DPMSolverMultistepScheduler(config)
      refuses(
        'scheduler',
        () => checkSchedulerFits(scheduler, true),
        /DPMSolverMultistepScheduler.*use_flow_sigmas/,
      )
    }
  })

  test('schedulers of flows do not fit a diffusion model; all others do', () => {
    refuses(
      'scheduler',
      () => checkSchedulerFits(new FlowMatchEulerDiscreteScheduler(), false),
      /FlowMatchEuler/,
    )
    refuses(
      'scheduler',
      () => checkSchedulerFits(new UniPCMultistepScheduler(flow), false),
      /UniPC.*diffusion model/,
    )
    for (const name of diffusionSchedulers) checkSchedulerFits(schedulerFrom(name, checkpointConfig), false)
  })

  test('a call refuses a scheduler that does not fit its model, before it begins', async () => {
    await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { device: 'cpu' })
    const refused = (scheduler: Scheduler | string) =>
      assert.rejects(pipeline.generate('a boat', { scheduler, steps: 2 }), {
        code: 'ERR_INVALID_ARGUMENT',
        parameter: 'scheduler',
        message: /does not fit the model/,
      })
    await refused('flow-match-euler')
    await refused(new UniPCMultistepScheduler(flow))
    pipeline.scheduler = new FlowMatchEulerDiscreteScheduler()
    await assert.rejects(pipeline.generate('a boat', { steps: 2 }), /FlowMatchEuler/)
  })

  test("a scheduler of the caller's own fits every model", () => {
    const own = { name: 'Own', config: {}, program: (steps: number) => new DDIMScheduler().program(steps) }
    checkSchedulerFits(own, true)
    checkSchedulerFits(own, false)
  })

  test('mistakes', () => {
    const scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 3 })
    const dynamic = new FlowMatchEulerDiscreteScheduler({ use_dynamic_shifting: true })
    const linear = new UniPCMultistepScheduler({
      ...flow,
      use_dynamic_shifting: true,
      time_shift_type: 'linear',
    })
    refuses('mu', () => scheduler.program(4, { mu: 1 }), /use_dynamic_shifting/)
    refuses('mu', () => dynamic.program(4), /use_dynamic_shifting/)
    refuses('mu', () => dynamic.program(4, { mu: Number.NaN }), /a number, got NaN/)
    refuses('mu', () => linear.program(4), /use_dynamic_shifting/)
    refuses('mu', () => linear.program(4, { mu: 0 }), /above 0/)
    refuses('mu', () => new DDIMScheduler().program(4, { mu: 1 }), /DDIMScheduler/)
    refuses('timesteps', () => scheduler.program(2, { timesteps: [1001, 5] }), /numbers from 1000 to 0/)
    refuses('timesteps', () => scheduler.program(2, { timesteps: [5, 500.5] }), /falling/)
    refuses('sigmas', () => scheduler.program(2, { sigmas: [1, 0.5] }), /3 falling numbers/)
    refuses(
      'steps',
      () => new FlowMatchEulerDiscreteScheduler({ shift_terminal: 0.1 }).program(1),
      /at least 2/,
    )
    refuses('shift_terminal', () => new FlowMatchEulerDiscreteScheduler({ shift_terminal: 2 }), /from 0 to 1/)
    refuses(
      'use_beta_sigmas',
      () => new FlowMatchEulerDiscreteScheduler({ use_karras_sigmas: true, use_beta_sigmas: true }),
      /use_karras_sigmas/,
    )
  })
})
