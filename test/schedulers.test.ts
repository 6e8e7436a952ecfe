import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import {
  DDIMScheduler,
  type DenoisingProgram,
  DPMSolverMultistepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  Generator,
  HeunDiscreteScheduler,
  LCMScheduler,
  LMSDiscreteScheduler,
  type NoiseSource,
  PNDMScheduler,
  ProgramBuilder,
  runProgram,
  type Scheduler,
  schedulerFrom,
  schedulerNames,
  TorchreelError,
  UniPCMultistepScheduler,
} from 'torchreel'
import { expected, expectedTensors, relativeError, tinyCheckpoint } from './support/fixtures.js'
import { float32 } from './support/safetensors_file.js'

const checkpointConfig = JSON.parse(
  readFileSync(`${tinyCheckpoint}/scheduler/scheduler_config.json`, 'utf8'),
) as Record<string, unknown>

const floats = (name: string) => float32(expectedTensors, name)

const SHAPE = [1, 4, 4, 4]
const SIZE = 64
const initial = { data: floats('scheduler.initial'), shape: SHAPE }

/** Noise for laws that hold for any noise; needs no libtorch. */
function anyNoise(): NoiseSource {
  let state = 1
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
  return { randn: (shape) => Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, normal) }
}

describe('trajectories are those of diffusers', () => {
  const noises = floats('scheduler.noises')
  for (const { name, class_name, config, steps, eta, timesteps, step_seed } of expected.schedulers) {
    test(`${name}: ${class_name}, ${steps} steps`, async () => {
      const program = schedulerFrom(class_name, config).program(steps, { eta: eta ?? 0 })
      assert.equal(program.timesteps.length, timesteps.length)
      timesteps.forEach((timestep, i) => {
        const actual = program.timesteps[i] as number
        assert.ok(Math.abs(actual - timestep) < 1e-3, `timestep ${i}: ${actual}, not ${timestep}`)
      })
      const network = (input: Float32Array, _timestep: number, call: number) =>
        input.map((value, i) => Math.fround(0.3 * value) + (noises[(call % 64) * SIZE + i] as number))
      const generator = instructions(program).includes(2) ? new Generator(step_seed) : undefined
      const trajectory = await runProgram(program, initial, network, generator)
      const reference = floats(`scheduler.${name}.trajectory`)
      assert.equal(trajectory.length * SIZE, reference.length)
      for (const [call, sample] of trajectory.entries()) {
        const wanted = reference.subarray(call * SIZE, (call + 1) * SIZE)
        assert.ok(sample.every(Number.isFinite), `call ${call} is not finite`)
        if (name === 'unipc_bh1_3' && call === trajectory.length - 1) {
          // diffusers has no number here: at σ = 0 bh1 multiplies ∞ by 0. Ours is the limit, x_0.
          assert.ok(wanted.every(Number.isNaN))
        } else {
          const error = relativeError(sample, wanted)
          assert.ok(error < 1e-5, `call ${call}: relative error ${error}`)
        }
      }
    })
  }
})

describe('timesteps of 5 steps are those of diffusers', () => {
  for (const [name, options, timesteps] of [
    ['kdpm2', {}, [999.0, 885.208, 749.25, 632.229, 499.5, 371.383, 249.75, 21.275, 0.0]],
    ['kdpm2-ancestral', {}, [999.0, 749.25, 749.25, 499.5, 499.5, 249.75, 249.75, 0.0, 0.0]],
    ['euler', { use_exponential_sigmas: true }, [999.0, 680.667, 233.21, 20.002, 0.0]],
    ['euler', { use_beta_sigmas: true }, [999.0, 966.495, 874.662, 634.552, 0.0]],
    ['dpmsolver-multistep', { use_karras_sigmas: true }, [999.0, 786.0, 427.0, 59.0, 0.0]],
    ['dpmsolver-multistep', { use_exponential_sigmas: true }, [998.0, 680.0, 233.0, 20.0, 0.0]],
    ['dpmsolver-multistep', { use_beta_sigmas: true }, [998.0, 966.0, 874.0, 634.0, 0.0]],
    ['dpmsolver-multistep', { timestep_spacing: 'leading' }, [831.0, 665.0, 499.0, 333.0, 167.0]],
    ['dpmsolver-multistep', { use_flow_sigmas: true, flow_shift: 3 }, [999.0, 922.0, 817.0, 666.0, 428.0]],
    [
      'dpmsolver-multistep',
      { beta_schedule: 'squaredcos_cap_v2', lambda_min_clipped: -5.1 },
      [995.0, 796.0, 597.0, 398.0, 199.0],
    ],
    ['unipc', { use_flow_sigmas: true, shift_terminal: 0.1 }, [999.0, 775.0, 550.0, 324.0, 99.0]],
    ['tcd', {}, [999.0, 799.0, 599.0, 399.0, 199.0]],
    [
      'pndm',
      { skip_prk_steps: false },
      [801.0, 701.0, 701.0, 601.0, 601.0, 501.0, 501.0, 401.0, 401.0, 301.0, 301.0, 201.0, 201.0, 1.0],
    ],
    ['ddpm', { timestep_spacing: 'linspace' }, [999.0, 749.0, 500.0, 250.0, 0.0]],
  ] as const) {
    test(`${name} ${JSON.stringify(options)}`, () => {
      const program = schedulerFrom(name, { ...checkpointConfig, ...options }).program(5)
      assert.deepEqual(
        [...program.timesteps].map((timestep) => Math.round(timestep * 1000) / 1000),
        timesteps,
      )
    })
  }
})

/** The opcodes of a program, in order. */
function instructions({ code }: DenoisingProgram): number[] {
  const lengths = [3, 0, 2, 3, 4]
  const opcodes: number[] = []
  for (let at = 0; at < code.length; ) {
    const opcode = code[at] as number
    opcodes.push(opcode)
    at += opcode === 1 ? 3 + 2 * (code[at + 2] as number) : (lengths[opcode] as number)
  }
  return opcodes
}

describe('laws of every scheduler', () => {
  // An own table of ᾱ in float64, to write networks that know the answer.
  const betas = Array.from({ length: 1000 }, (_, i) => {
    const [start, end] = [Math.sqrt(0.00085), Math.sqrt(0.012)]
    return (start + ((end - start) * i) / 999) ** 2
  })
  let product = 1
  const sigmas = betas.map((beta) => {
    product *= 1 - beta
    return Math.sqrt((1 - product) / product)
  })
  /** alpha and sigma at a timestep, between timesteps by σ. */
  const level = (timestep: number) => {
    const low = Math.min(Math.floor(timestep), 998)
    const sigma =
      (sigmas[low] as number) + ((sigmas[low + 1] as number) - (sigmas[low] as number)) * (timestep - low)
    const alpha = 1 / Math.sqrt(sigma ** 2 + 1)
    return { alpha, sigma: sigma * alpha }
  }
  const x0 = Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i))
  /** Networks that know x_0 and say it in each of the ways. */
  const predictions = {
    epsilon: (x: number, x0: number, alpha: number, sigma: number) => (x - alpha * x0) / sigma,
    v_prediction: (x: number, x0: number, alpha: number, sigma: number) => (alpha * x - x0) / sigma,
    sample: (_x: number, x0: number) => x0,
  }
  const knowing = (prediction: keyof typeof predictions) => (input: Float32Array, timestep: number) => {
    const { alpha, sigma } = level(timestep)
    return input.map((x, i) => predictions[prediction](x, x0[i] as number, alpha, sigma))
  }
  const end = async (scheduler: Scheduler, prediction: keyof typeof predictions, steps = 12) => {
    const program = scheduler.program(steps, { eta: 0.5 })
    return (await runProgram(program, initial, knowing(prediction), anyNoise())).at(-1) as Float32Array
  }

  for (const name of schedulerNames) {
    test(`${name}: timesteps fall, programs are pure`, () => {
      for (const steps of [1, 2, 3, 7, 25, 50]) {
        if (name === 'pndm' && steps < 4) continue
        const scheduler = schedulerFrom(name, { ...checkpointConfig, skip_prk_steps: true })
        const program = scheduler.program(steps)
        const calls = {
          heun: 2 * steps - 1,
          kdpm2: 2 * steps - 1,
          'kdpm2-ancestral': 2 * steps - 1,
          pndm: steps + 1,
        }
        assert.equal(program.timesteps.length, (calls as Record<string, number>)[name] ?? steps)
        program.timesteps.forEach((timestep, i) => {
          assert.ok(timestep >= 0 && timestep <= 999)
          if (i > 0) assert.ok(timestep <= (program.timesteps[i - 1] as number), `${program.timesteps}`)
        })
        assert.deepEqual(scheduler.program(steps), program)
      }
    })

    test(`${name}: with a network that knows x_0, the end is x_0`, async () => {
      const scheduler = schedulerFrom(name, checkpointConfig)
      const sample = await end(scheduler, 'epsilon')
      // Some schedulers end at the first timestep, where a noise of 0.03 is left.
      sample.forEach((value, i) => {
        assert.ok(Math.abs(value - (x0[i] as number)) < 0.1, `${value} is not ${x0[i]}`)
      })
    })

    // PNDM blends the velocities of several timesteps before it converts them.
    if (name === 'pndm') continue
    test(`${name}: what the network predicts makes no difference`, async () => {
      const reference = await end(schedulerFrom(name, checkpointConfig), 'epsilon')
      for (const prediction of ['v_prediction', 'sample'] as const) {
        let scheduler: Scheduler
        try {
          scheduler = schedulerFrom(name, { ...checkpointConfig, prediction_type: prediction })
        } catch (error) {
          assert.equal((error as TorchreelError).parameter, 'prediction_type')
          assert.equal(prediction, 'sample')
          continue
        }
        const sample = await end(scheduler, prediction)
        assert.ok(relativeError(sample, reference) < 2e-3, prediction)
      }
    })
  }

  // For data of a normal distribution the perfect network is known, and so is where its ODE leads.
  const [mean, deviation] = [0.5, 0.4]
  const normalData = (input: Float32Array, timestep: number) => {
    const { alpha, sigma } = level(timestep)
    const variance = alpha ** 2 * deviation ** 2 + sigma ** 2
    return input.map((x) => (sigma * (x - alpha * mean)) / variance)
  }

  const karras = { use_karras_sigmas: true }
  const sde = { algorithm_type: 'sde-dpmsolver++' }
  const epsilonForm = { algorithm_type: 'dpmsolver', final_sigmas_type: 'sigma_min', use_lu_lambdas: true }
  for (const [name, options, bound] of [
    ['ddim', {}, 0.05],
    ['euler', {}, 0.06],
    ['euler', karras, 0.04],
    ['euler', { use_exponential_sigmas: true }, 0.04],
    ['euler', { use_beta_sigmas: true }, 0.09],
    ['heun', karras, 0.005],
    ['kdpm2', karras, 0.003],
    ['lms', karras, 0.003],
    ['pndm', { skip_prk_steps: true }, 0.002],
    ['pndm', { skip_prk_steps: false }, 0.002],
    ['dpmsolver-multistep', { use_lu_lambdas: true }, 0.002],
    ['dpmsolver-multistep', { use_lu_lambdas: true, solver_type: 'heun' }, 0.003],
    ['dpmsolver-multistep', { use_lu_lambdas: true, solver_order: 3 }, 0.002],
    ['dpmsolver-multistep', epsilonForm, 0.002],
    ['dpmsolver-multistep', { ...epsilonForm, solver_order: 3 }, 0.002],
    ['dpmsolver-singlestep', karras, 0.012],
    ['dpmsolver-singlestep', { ...karras, solver_type: 'heun' }, 0.006],
    ['dpmsolver-singlestep', { ...karras, solver_order: 3 }, 0.003],
    ['dpmsolver-singlestep', { ...karras, solver_order: 3, solver_type: 'heun' }, 0.002],
    ['deis', karras, 0.003],
    ['deis', { ...karras, solver_order: 3 }, 0.003],
    ['unipc', karras, 0.002],
    ['unipc', { ...karras, solver_order: 3 }, 0.002],
    ['unipc', { ...karras, solver_order: 3, solver_type: 'bh1' }, 0.002],
    ['unipc', { ...karras, predict_x0: false }, 0.002],
  ] as const) {
    test(`${name} ${JSON.stringify(options)}: 24 steps solve the ODE to ${bound}`, async () => {
      const scheduler = schedulerFrom(name, { ...checkpointConfig, set_alpha_to_one: true, ...options })
      const solution = new Float32Array(SIZE)
      const trajectory = await runProgram(scheduler.program(24), initial, (input, timestep, call) => {
        if (call === 0) {
          const { alpha, sigma } = level(timestep)
          const scale = deviation / Math.sqrt(alpha ** 2 * deviation ** 2 + sigma ** 2)
          solution.set(input.map((x) => mean + scale * (x - alpha * mean)))
        }
        return normalData(input, timestep)
      })
      const error = relativeError(trajectory.at(-1) as Float32Array, solution)
      assert.ok(error < bound / mean, `${error}`)
    })
  }

  for (const [name, options, eta] of [
    ['ddim', {}, 1],
    ['ddpm', {}, 0],
    ['euler-ancestral', {}, 0],
    ['kdpm2-ancestral', {}, 0],
    ['tcd', { original_inference_steps: 1000 }, 0.5],
    ['dpmsolver-multistep', sde, 0],
    ['dpmsolver-multistep', { ...sde, solver_order: 3 }, 0],
    ['dpmsolver-multistep', { algorithm_type: 'sde-dpmsolver', final_sigmas_type: 'sigma_min' }, 0],
    ['dpmsolver-singlestep', sde, 0],
  ] as const) {
    test(`${name} ${JSON.stringify(options)}: fresh noise keeps the distribution`, async () => {
      const source = anyNoise()
      const sample = { data: source.randn([4096]), shape: [1, 1, 64, 64] }
      const program = schedulerFrom(name, { ...checkpointConfig, ...options }).program(100, { eta })
      assert.ok(instructions(program).includes(2))
      const last = (await runProgram(program, sample, normalData, source)).at(-1) as Float32Array
      const average = last.reduce((sum, x) => sum + x, 0) / last.length
      const spread = Math.sqrt(last.reduce((sum, x) => sum + (x - average) ** 2, 0) / last.length)
      assert.ok(Math.abs(average - mean) < 0.03, `mean ${average}`)
      // 100 steps are few for an SDE of the first order, or with noise in its slopes.
      assert.ok(Math.abs(spread - deviation) < 0.06, `deviation ${spread}`)
    })
  }

  test('clipping and thresholding keep a wild network in bounds', async () => {
    const wild = (input: Float32Array) => input.map((value, i) => 40 * value + i)
    const limited = [
      new DDIMScheduler({ clip_sample: true }),
      new DDIMScheduler({ clip_sample: false, thresholding: true, dynamic_thresholding_ratio: 0.8 }),
      new DPMSolverMultistepScheduler({ thresholding: true, sample_max_value: 3 }),
      new UniPCMultistepScheduler({ thresholding: true }),
      new HeunDiscreteScheduler({ clip_sample: true }),
      new LCMScheduler({ clip_sample: true }),
    ]
    for (const scheduler of limited) {
      const sample = (await runProgram(scheduler.program(5), initial, wild, anyNoise())).at(
        -1,
      ) as Float32Array
      const largest = Math.max(...sample.map(Math.abs))
      assert.ok(largest > 0.5 && largest < 1.01, `${scheduler.name}: ${largest}`)
    }
  })

  test('many steps, where whole timesteps repeat, stay finite', async () => {
    for (const name of ['dpmsolver-multistep', 'deis', 'unipc']) {
      const sample = await end(schedulerFrom(name, checkpointConfig), 'epsilon', 1000)
      assert.ok(sample.every(Number.isFinite), name)
    }
  })
})

describe('fromConfig', () => {
  test('drops what was only a default, keeps what was written', () => {
    const ddim = DDIMScheduler.fromConfig(checkpointConfig)
    assert.equal(ddim.config.timestep_spacing, 'leading')
    const dpm = DPMSolverMultistepScheduler.fromConfig(ddim.config)
    assert.equal(dpm.config.timestep_spacing, 'linspace')
    assert.equal(dpm.config.steps_offset, 1)
    assert.equal(dpm.config.beta_schedule, 'scaled_linear')
    assert.deepEqual(
      [...dpm.program(25).timesteps],
      [
        999, 959, 919, 879, 839, 799, 759, 719, 679, 639, 599, 559, 519, 480, 440, 400, 360, 320, 280, 240,
        200, 160, 120, 80, 40,
      ],
    )
    assert.deepEqual(
      [...DDIMScheduler.fromConfig(dpm.config).program(25).timesteps].slice(0, 3),
      [961, 921, 881],
    )

    const trailing = DDIMScheduler.fromConfig(checkpointConfig, { timestep_spacing: 'trailing' })
    assert.equal(DPMSolverMultistepScheduler.fromConfig(trailing.config).config.timestep_spacing, 'trailing')
  })

  test('a copy by spread remembers the defaults, and what is changed in it counts as written', () => {
    const config = new DDIMScheduler().config
    assert.equal(DPMSolverMultistepScheduler.fromConfig({ ...config }).config.timestep_spacing, 'linspace')
    const changed = { ...config, timestep_spacing: 'trailing' }
    assert.equal(DPMSolverMultistepScheduler.fromConfig(changed).config.timestep_spacing, 'trailing')
  })

  test('carries keys of other classes, and does not use them', () => {
    const dpm = DPMSolverMultistepScheduler.fromConfig({ ...checkpointConfig, clip_sample: true })
    const plain = DPMSolverMultistepScheduler.fromConfig(checkpointConfig)
    assert.deepEqual(dpm.program(5), plain.program(5))
    const pndm = PNDMScheduler.fromConfig(dpm.config)
    assert.equal(pndm.config.skip_prk_steps, true)
    assert.equal(pndm.program(25).timesteps.length, 26)
    assert.equal(DDIMScheduler.fromConfig(pndm.config).config.clip_sample, true)
  })

  test('reads the value of a sibling as its own', () => {
    const unipc = new UniPCMultistepScheduler({ solver_type: 'bh1' })
    assert.equal(DPMSolverMultistepScheduler.fromConfig(unipc.config).config.solver_type, 'midpoint')
  })

  test('the config is frozen and complete', () => {
    const { config } = new DDIMScheduler()
    assert.ok(Object.isFrozen(config))
    assert.deepEqual(JSON.parse(JSON.stringify(config)), {
      num_train_timesteps: 1000,
      beta_start: 0.0001,
      beta_end: 0.02,
      beta_schedule: 'linear',
      trained_betas: null,
      clip_sample: true,
      clip_sample_range: 1,
      thresholding: false,
      dynamic_thresholding_ratio: 0.995,
      sample_max_value: 1,
      timestep_spacing: 'leading',
      steps_offset: 0,
      set_alpha_to_one: true,
      prediction_type: 'epsilon',
      rescale_betas_zero_snr: false,
    })
  })
})

describe('mistakes', () => {
  const refuses = (parameter: string, action: () => unknown, message?: RegExp) => {
    assert.throws(action, (error: unknown) => {
      assert.ok(error instanceof TorchreelError)
      assert.equal(error.code, 'ERR_INVALID_ARGUMENT')
      assert.equal(error.parameter, parameter)
      if (message) assert.match(error.message, message)
      return true
    })
  }
  const dpm = (config: object) => () => DPMSolverMultistepScheduler.fromConfig(config)

  test('option values are checked, and the option is named', () => {
    refuses(
      'timestep_spacing',
      dpm({ timestep_spacing: 'even' }),
      /"linspace", "leading", "trailing".*"even"/,
    )
    refuses('solver_order', dpm({ solver_order: 4 }), /from 1 to 3, got 4/)
    refuses('solver_order', dpm({ solver_order: '2' }))
    refuses('thresholding', dpm({ thresholding: 1 }))
    refuses('beta_start', dpm({ beta_start: null }))
    refuses('beta_schedule', dpm({ beta_schedule: 'toString' }))
    refuses('trained_betas', dpm({ trained_betas: [0.1, 'x'] }))
    refuses('trained_betas', dpm({ trained_betas: [0.1, 0.2] }), /1000/)
    refuses('variance_type', dpm({ variance_type: 'learned_range' }))
    refuses('prediction_type', () =>
      EulerAncestralDiscreteScheduler.fromConfig({ prediction_type: 'sample' }),
    )
    refuses('config', dpm([]))
  })

  test('options that cannot go together', () => {
    refuses(
      'use_beta_sigmas',
      () => new EulerDiscreteScheduler({ use_karras_sigmas: true, use_beta_sigmas: true }),
    )
    refuses(
      'final_sigmas_type',
      () => new DPMSolverMultistepScheduler({ algorithm_type: 'dpmsolver' }),
      /"sigma_min"/,
    )
    refuses('shift_terminal', () => new UniPCMultistepScheduler({ shift_terminal: 0.1 }))
  })

  test('a misspelt option of a constructor', () => {
    const options = { timestep_spaceing: 'trailing' } as object
    refuses('timestep_spaceing', () => new DDIMScheduler(options), /did you mean "timestep_spacing"/)
  })

  test('a scheduler that is not known', () => {
    refuses(
      'scheduler',
      () => schedulerFrom('euler-ancestrall'),
      /did you mean "euler-ancestral".*dpmsolver-multistep/,
    )
    refuses('scheduler', () => schedulerFrom('constructor'))
    assert.equal(schedulerFrom('EulerDiscreteScheduler').name, 'EulerDiscreteScheduler')
  })

  test('steps and eta out of range', () => {
    const scheduler = new DDIMScheduler({ steps_offset: 1 })
    for (const steps of [0, -1, 1.5, 1001, Number.NaN, '5' as unknown as number]) {
      refuses('steps', () => scheduler.program(steps))
    }
    refuses('steps', () => scheduler.program(1000), /steps_offset/)
    refuses('steps', () => new LCMScheduler().program(51), /original_inference_steps/)
    refuses('steps', () => new PNDMScheduler().program(3), /at least 4/)
    for (const eta of [-0.1, 1.1, Number.NaN]) refuses('eta', () => scheduler.program(5, { eta }))
  })
})

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

  test('needs a generator only for noise, and asks before the first call', async () => {
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

  test('refuses programs that are not well formed', async () => {
    const program = (message: RegExp) => invalid('program', message)
    await assert.rejects(run(withCode(9)), program(/9 is no instruction/))
    await assert.rejects(run(withCode(1, 0, 2, 0, 1)), program(/2 terms does not fit/))
    await assert.rejects(run(withCode(1, 0, -1)), program(/-1 terms/))
    await assert.rejects(run(withCode(1, 3, 1, 0, 1)), program(/3 is no register/))
    await assert.rejects(run(withCode(1, 0.5, 1, 0, 1)), program(/0.5 is no register/))
    await assert.rejects(run(withCode(1, 0, 1, 2, 1)), program(/register 2, which nothing wrote/))
    await assert.rejects(run(withCode(1, 0, 1, 1, 1)), program(/register 1, which nothing wrote/))
    await assert.rejects(run(withCode(1, 0, 1, 0, Number.NaN)), program(/holds NaN/))
    await assert.rejects(run(withCode(3, 0)), program(/cut short/))
    await assert.rejects(run(withCode(0, 5, 1)), program(/timesteps/))
  })

  test('refuses a sample or an output of the wrong size', async () => {
    const program = new DDIMScheduler().program(2)
    await assert.rejects(
      runProgram(program, { data: new Float32Array(3), shape: SHAPE }, zero),
      invalid('sample', /64 values/),
    )
    await assert.rejects(
      runProgram(program, initial, () => new Float32Array(1)),
      invalid('model', /64 values/),
    )
  })
})
