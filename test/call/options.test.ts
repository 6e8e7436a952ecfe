// A caller's mistakes fail before anything heavy, with a code, the parameter, what was expected and what came.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { type GenerateOptions, Generator, generate, TextToVideoPipeline, TorchreelError } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())

/** The job must not start: progress would be reported. */
const onProgress = () => assert.fail('the job began')

async function assertRefused(call: () => Promise<unknown>, parameter: string, words?: RegExp): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof TorchreelError, String(error))
    assert.equal(error.code, 'ERR_INVALID_ARGUMENT', error.message)
    assert.equal(error.parameter, parameter)
    assert.ok(error.expected, 'says what was expected')
    assert.ok('received' in error, 'says what came')
    if (words) assert.match(error.message, words)
    return true
  })
}

const call = (options: object) => () =>
  pipeline.generate('a panda', { onProgress, ...options } as GenerateOptions)

describe('generate', () => {
  for (const prompt of [undefined, null, 5, new String('a'), {}, [], ['a', 5]]) {
    test(`[wrong-prompt-type] the prompt ${JSON.stringify(prompt)}`, () =>
      assertRefused(() => pipeline.generate(prompt as string, { onProgress }), 'prompt'))
  }

  const wrong: Record<string, unknown[]> = {
    steps: [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '25', 1e9, null],
    frames: [0, -1, 1.5, '16', 5000],
    width: [0, 33, 30, -32, '64', 1e6],
    height: [0, 33, 30, -32, '64', 1e6],
    guidanceScale: ['9', Number.NaN, -1, Number.POSITIVE_INFINITY],
    negativePrompt: [5, ['a', 'b'], [5]],
    seed: [-1, 1.5, 2 ** 53, '0', Number.NaN],
    eta: [-0.1, 1.1, '0'],
    clipSkip: [-1, 0.5, 3, '1'],
    fps: [0, -1, '8', Number.NaN, 1e9],
    scheduler: [5, {}, 'no-such-scheduler', 'dpmsolver-multisteps'],
    signal: [{}, 'abort', 1],
    onProgress: ['x', 1, {}],
    returnLatents: ['yes', 1],
  }
  for (const [parameter, values] of Object.entries(wrong)) {
    for (const value of values) {
      const text = typeof value === 'number' ? String(value) : JSON.stringify(value)
      test(`[number-out-of-range] ${parameter} ${text}`, () =>
        assertRefused(call({ [parameter]: value }), parameter))
    }
  }

  test('[unknown-option] an unknown option, with what was meant', async () => {
    await assertRefused(call({ step: 25 }), 'step', /did you mean "steps"\?/)
    await assertRefused(call({ num_frames: 25 }), 'num_frames')
    await assertRefused(call({ guidance: 2 }), 'guidance')
  })

  const tensor = (shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b, 1)), shape })
  const frame = { width: 32, height: 32, data: new Uint8Array(32 * 32 * 3) }
  const promptEmbeds = tensor([1, 77, 32])
  for (const [message, parameter, prompt, options] of [
    [
      'latents cannot be combined with video',
      'latents',
      'a',
      { latents: tensor([1, 4, 1, 8, 8]), video: [frame] },
    ],
    ['strength needs video', 'strength', 'a', { strength: 0.5 }],
    ['prompt cannot be combined with promptEmbeds', 'prompt', 'a', { promptEmbeds }],
    [
      'negativePromptEmbeds needs promptEmbeds',
      'negativePromptEmbeds',
      'a',
      { negativePromptEmbeds: promptEmbeds },
    ],
    [
      'promptEmbeds with guidanceScale above 1 also needs negativePromptEmbeds',
      'negativePromptEmbeds',
      undefined,
      { promptEmbeds },
    ],
    ['output cannot be combined with several prompts', 'output', ['a', 'b'], { output: 'a.gif' }],
    [
      'timesteps cannot be combined with sigmas',
      'timesteps',
      'a',
      { timesteps: [9], sigmas: [1, 0], scheduler: 'euler' },
    ],
  ] as [string, string, string, GenerateOptions][]) {
    test(`[unknown-option] ${message}`, () =>
      assertRefused(
        () => pipeline.generate(prompt, { onProgress, ...options }),
        parameter,
        new RegExp(`^${message}$`),
      ))
  }

  test('[unknown-option] the reference’s names are answered with the names here', async () => {
    for (const [given, meant] of [
      ['num_inference_steps', 'steps'],
      ['num_frames', 'frames'],
      ['guidance_scale', 'guidanceScale'],
      ['negative_prompt', 'negativePrompt'],
    ]) {
      const options = { [given as string]: 3 } as GenerateOptions
      await assertRefused(
        () => pipeline.generate('a', options),
        given as string,
        new RegExp(`did you mean "${meant}"`),
      )
    }
  })

  test('[unknown-option] mistakes fail before a call waits for its turn', async () => {
    await using narrow = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { limits: { queue: 1 } })
    const running = narrow.generate('a', { steps: 2, frames: 2 })
    await assertRefused(() => narrow.generate(undefined, { promptEmbeds }), 'negativePromptEmbeds')
    await assertRefused(() => narrow.generate('a', { video: [frame], clipSkip: 3 }), 'clipSkip')
    await assert.rejects(narrow.generate('a'), { code: 'ERR_QUEUE_FULL' })
    await running
  })

  test('[impossible-size] a size that is no multiple names the nearest that is', () =>
    assertRefused(call({ width: 66 }), 'width', /multiple of 4, such as 68/))

  test('[too-many-pixels] too many pixels are ERR_LIMIT_EXCEEDED before anything is allocated', async () => {
    const before = process.memoryUsage().rss
    await assert.rejects(call({ frames: 4096, width: 4096, height: 4096 }), { code: 'ERR_LIMIT_EXCEEDED' })
    assert.ok(process.memoryUsage().rss - before < 50e6)
  })

  test('[prompt-length] a prompt of 100 kB is ERR_LIMIT_EXCEEDED', () =>
    assert.rejects(pipeline.generate('x'.repeat(100_000), { onProgress }), {
      code: 'ERR_LIMIT_EXCEEDED',
      parameter: 'prompt',
    }))

  test('[prompt-length] an over-long prompt is cut, and the result says so', async () => {
    const video = await pipeline.generate('word '.repeat(100), { steps: 1, frames: 1 })
    assert.match(video.warnings.join('\n'), /prompt: the last 25 tokens were cut off/)
  })

  test('[seeds] seeds 0, 2^32 and 2^53 − 1 are fine', async () => {
    for (const seed of [0, 2 ** 32, 2 ** 53 - 1]) {
      assert.equal((await pipeline.generate('a', { steps: 1, frames: 1, seed })).seed, seed)
    }
  })

  test('[changing-options] options are read once; what a getter throws comes out', async () => {
    let reads = 0
    const video = await pipeline.generate('a', {
      steps: 1,
      get frames() {
        return ++reads
      },
    })
    assert.equal(video.frameCount, 1)
    assert.equal(reads, 1)
    const error = new Error('from the getter')
    const throwing = {
      get steps(): number {
        throw error
      },
    }
    await assert.rejects(pipeline.generate('a', throwing), error)
  })

  test('[changing-options] options that are changed after the call change nothing', async () => {
    const options = { steps: 1, frames: 1, seed: [3], negativePrompt: ['x'], guidanceScale: [2] }
    const call = pipeline.generate(['a'], options)
    options.frames = 7
    options.seed[0] = 4
    options.negativePrompt[0] = 'y'
    options.guidanceScale[0] = 0
    const [video] = await call
    assert.deepEqual([video?.frameCount, video?.seed, video?.negativePrompt], [1, 3, 'x'])
  })

  for (const prompt of ['', '\0', '\ud800 half', '👩‍👩‍👧 🎬', '\u202e', 'ﷺ'.repeat(50)]) {
    test(`[prompt-length] the prompt ${JSON.stringify(prompt)} makes a video`, async () => {
      assert.equal((await pipeline.generate(prompt, { steps: 1, frames: 1 })).frameCount, 1)
    })
  }

  test('[number-out-of-range] 1 and 1000 steps are fine', async () => {
    const small = { width: 8, height: 8, frames: 1, guidanceScale: 1 }
    assert.equal((await pipeline.generate('a', { steps: 1, ...small })).steps, 1)
    const onProgress: GenerateOptions['onProgress'] = ({ stage, steps }) => {
      if (stage === 'denoise') throw new Error(`of ${steps}`)
    }
    await assert.rejects(pipeline.generate('a', { ...small, steps: 1000, onProgress }), /of 1000/)
  })

  test('null instead of options', () =>
    assertRefused(() => pipeline.generate('a', null as unknown as GenerateOptions), 'options'))

  test('the result says what was chosen', async () => {
    const video = await pipeline.generate('a', { steps: 1, frames: 3 })
    assert.deepEqual([video.width, video.height, video.frameCount, video.fps], [32, 32, 3, 8])
    assert.equal(video.data.length, 3 * 32 * 32 * 3)
    assert.equal(video.device, 'cpu')
    assert.equal(video.dtype, 'float32')
    assert.equal(video.scheduler, 'DPMSolverMultistepScheduler')
    assert.match(video.libtorch ?? '', /^\d+\.\d+/)
    assert.ok(Number.isSafeInteger(video.seed))
    for (const stage of ['encode', 'denoise', 'decode', 'total'])
      assert.ok((video.timings?.[stage] ?? -1) >= 0, stage)
    assert.equal(video.latents, undefined)
  })

  test('guidanceScale 1 and 0 run on the prompt alone', async () => {
    const options = { steps: 2, frames: 1, seed: 3 }
    const one = await pipeline.generate('a panda', { ...options, guidanceScale: 1, negativePrompt: 'x' })
    const zero = await pipeline.generate('a panda', { ...options, guidanceScale: 0 })
    assert.deepEqual(one.data, zero.data)
  })
})

describe('fromPretrained and generate(prompt, options)', () => {
  const load = (options: object) => () => TextToVideoPipeline.fromPretrained(tinyCheckpoint, options)
  for (const [parameter, value] of [
    ['device', 'gpu'],
    ['device', 5],
    ['dtype', 'fp16'],
    ['variant', '../x'],
    ['offload', 'sequential-ish'],
    ['threads', 0],
    ['captureGraph', 1],
    ['compiledDenoiser', ''],
    ['compiledDenoiser', 5],
    ['trustGraph', 'yes'],
    ['libtorch', ''],
    ['dtyp', 'float32'],
  ] as const) {
    test(`${parameter} ${JSON.stringify(value)}`, () =>
      assertRefused(load({ [parameter]: value }), parameter))
  }

  test('captureGraph where no graph can be captured', async () => {
    await assertRefused(load({ captureGraph: true, offload: 'sequential' }), 'captureGraph')
    await assert.rejects(load({ captureGraph: true, device: 'cpu' }), {
      code: 'ERR_DEVICE_UNAVAILABLE',
      message: /captureGraph needs a CUDA device, got cpu/,
    })
  })

  test('[missing-device] a device that is not there is ERR_DEVICE_UNAVAILABLE; auto takes the CPU', async () => {
    await assert.rejects(load({ device: 'cuda:99' }), { code: 'ERR_DEVICE_UNAVAILABLE' })
    await using chosen = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { device: 'auto' })
    assert.ok(['cpu', 'cuda:0'].includes(chosen.device))
  })

  test('one call: mistakes in either half fail before the model is loaded', async () => {
    const model = '/no/such/model'
    await assertRefused(() => generate('a', { model, stepz: 3 } as never), 'stepz')
    await assertRefused(() => generate('a', { model, steps: 0 }), 'steps')
    await assertRefused(() => generate(5 as never, { model }), 'prompt')
    await assertRefused(() => generate('a', { model: 5 } as never), 'model')
    await assertRefused(() => generate('a', { model: null } as never), 'model')
    await assert.rejects(generate('a', { model }), { code: 'ERR_MODEL_NOT_FOUND' })
  })

  test('one call: a misspelt option of either half, with what was meant', async () => {
    const model = '/no/such/model'
    for (const [name, meant] of [
      ['devise', 'device'],
      ['compiledDenoizer', 'compiledDenoiser'],
      ['lora', 'loras'],
      ['step', 'steps'],
    ] as const) {
      const call = () => generate('a', { model, [name]: 1 } as never)
      await assertRefused(call, name, new RegExp(`there is no option ${name}; did you mean "${meant}"`))
    }
  })

  test('one call: captureGraph repeats whole steps, so featureCache is refused before the model is loaded', () =>
    assertRefused(
      () => generate('a', { model: '/no/such/model', captureGraph: true, featureCache: 2 }),
      'featureCache',
      /^featureCache cannot be combined with captureGraph$/,
    ))

  test('one call: a name for one picture is refused before the model is loaded', () =>
    assertRefused(() => generate('a', { model: '/no/such/model', output: '/tmp/one.png' }), 'path'))

  test('one call makes the pipeline’s video', async () => {
    const options = { steps: 2, frames: 2, seed: 9 }
    const one = await generate('a boat', { model: tinyCheckpoint, ...options })
    assert.deepEqual(one.data, (await pipeline.generate('a boat', options)).data)
  })

  test('dtype "auto" is the default: float32 on the CPU', async () => {
    await using automatic = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, {
      dtype: 'auto',
      device: 'cpu',
    })
    const options = { steps: 2, frames: 2, seed: 9 }
    assert.equal(automatic.dtype, 'float32')
    assert.deepEqual(
      (await automatic.generate('a boat', options)).data,
      (await pipeline.generate('a boat', options)).data,
    )
  })

  for (const dtype of ['bfloat16', 'float16'] as const) {
    test(`${dtype} on the CPU gives a video, the same each time`, async () => {
      await using half = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { dtype })
      const options = { steps: 2, frames: 2, seed: 9 }
      const [first, second] = [await half.generate('a boat', options), await half.generate('a boat', options)]
      assert.equal(first.dtype, dtype)
      assert.deepEqual(first.data, second.data)
      assert.ok(new Set(first.data).size > 20, 'it is a picture')
    })
  }

  test('offload "model" gives the same frames', async () => {
    await using offloaded = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, {
      offload: 'model',
      threads: 2,
    })
    const options = { steps: 2, frames: 2, seed: 9 }
    const [first, second] = [await offloaded.generate('a', options), await offloaded.generate('a', options)]
    assert.deepEqual(first.data, second.data)
    assert.deepEqual(first.data, (await pipeline.generate('a', options)).data)
  })
})

describe('Generator', () => {
  test('gives torch.randn’s numbers', () => {
    const generator = new Generator(0)
    const first = generator.randn([2, 2])
    const wanted = [1.5409961, -0.2934289, -2.1787894, 0.5684313]
    for (const [index, value] of wanted.entries())
      assert.ok(Math.abs((first[index] as number) - value) < 1e-6)
    assert.notDeepEqual(generator.randn([2, 2]), first)
    assert.deepEqual(new Generator(0).randn([2, 2]), first)
    assert.equal(new Generator(0).randn([]).length, 1)
    assert.equal(new Generator(0).randn([0, 3]).length, 0)
  })

  test('refuses what is no seed and no shape', () => {
    for (const seed of [-1, 1.5, '0', undefined]) {
      assert.throws(() => new Generator(seed as number), { code: 'ERR_INVALID_ARGUMENT', parameter: 'seed' })
    }
    for (const shape of [5, [-1], [1.5], undefined, [2 ** 40, 2 ** 40]]) {
      assert.throws(() => new Generator(0).randn(shape as number[]), { code: 'ERR_INVALID_ARGUMENT' })
    }
  })
})
