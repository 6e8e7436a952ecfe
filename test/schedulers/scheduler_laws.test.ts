// Laws that hold for every solver, independent of the reference: laws of programs, and results with networks that know the
// answer.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  HeunDiscreteScheduler,
  LCMScheduler,
  runProgram,
  type Scheduler,
  schedulerFrom,
  type TorchreelError,
  UniPCMultistepScheduler,
} from 'torchreel'
import { relativeError } from '../support/fixtures.js'
import {
  anyNoise,
  checkpointConfig,
  diffusionSchedulers,
  initial,
  instructions,
} from '../support/scheduler_runs.js'

const size = initial.data.length

describe('[schedules] laws of every scheduler', () => {
  // A separate table of ᾱ in float64, for networks that know the answer.
  const betas = Array.from({ length: 1000 }, (_, i) => {
    const [start, end] = [Math.sqrt(0.00085), Math.sqrt(0.012)]
    return (start + ((end - start) * i) / 999) ** 2
  })
  let product = 1
  const sigmas = betas.map((beta) => {
    product *= 1 - beta
    return Math.sqrt((1 - product) / product)
  })
  /** alpha and sigma at a timestep. Interpolates σ between timesteps. */
  const level = (timestep: number) => {
    const low = Math.min(Math.floor(timestep), 998)
    const sigma =
      (sigmas[low] as number) + ((sigmas[low + 1] as number) - (sigmas[low] as number)) * (timestep - low)
    const alpha = 1 / Math.sqrt(sigma ** 2 + 1)
    return { alpha, sigma: sigma * alpha }
  }
  const x0 = Float32Array.from({ length: size }, (_, i) => Math.sin(i))
  /** Networks that know x_0, one for each prediction type. */
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

  for (const name of diffusionSchedulers) {
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
      // Some schedulers end at the first timestep, with a remaining noise of 0.03.
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

  // For normally distributed data, the perfect network and the solution of its ODE are known.
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
      const solution = new Float32Array(size)
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
      // 100 steps are few for a first-order SDE, or for one with noise in its slopes.
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
