// Configs: values passed from class to class, and rejected values.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  EulerAncestralDiscreteScheduler,
  EulerDiscreteScheduler,
  LCMScheduler,
  PNDMScheduler,
  schedulerFrom,
  TorchreelError,
  UniPCMultistepScheduler,
} from 'torchreel'
import { checkpointConfig } from '../support/scheduler_runs.js'

describe('fromConfig', () => {
  test('drops defaults and keeps written values', () => {
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

  test('a copy by spread remembers the defaults, and changed values count as written', () => {
    const config = new DDIMScheduler().config
    assert.equal(DPMSolverMultistepScheduler.fromConfig({ ...config }).config.timestep_spacing, 'linspace')
    const changed = { ...config, timestep_spacing: 'trailing' }
    assert.equal(DPMSolverMultistepScheduler.fromConfig(changed).config.timestep_spacing, 'trailing')
  })

  test('keeps keys of other classes, and does not use them', () => {
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
      /'linspace', 'leading' or 'trailing'.*"even"/,
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
    for (const name of ['ddim', 'ddpm', 'lcm', 'tcd']) {
      // From pure noise, a predicted ε gives no x_0.
      const config = { rescale_betas_zero_snr: true, timestep_spacing: 'trailing' }
      refuses('rescale_betas_zero_snr', () => schedulerFrom(name, config).program(5))
      schedulerFrom(name, { ...config, prediction_type: 'v_prediction' }).program(5)
    }
    refuses('shift_terminal', () => new UniPCMultistepScheduler({ shift_terminal: 0.1 }))
  })

  test('a misspelt option of a constructor', () => {
    const options = { timestep_spaceing: 'trailing' } as object
    refuses('timestep_spaceing', () => new DDIMScheduler(options), /did you mean "timestep_spacing"/)
  })

  test('an unknown scheduler', () => {
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
