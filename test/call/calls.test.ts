// What a call can say beyond a prompt: batches, seeds, embeddings, latents, guidance by step, previews, frames as they come,
// windows; alone and together.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, describe, test } from 'node:test'
import {
  type GenerateOptions,
  Generator,
  type Preview,
  ProgramBuilder,
  type Scheduler,
  TextToVideoPipeline,
} from 'torchreel'
import { relativeError, repository, tinyCheckpoint } from '../support/fixtures.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())
const small = { steps: 3, frames: 3, seed: 5, returnLatents: true } as const satisfies GenerateOptions

/** Batches add up in another order: latents agree within rounding. */
function assertNear(actual: Float32Array | undefined, wanted: Float32Array | undefined): void {
  assert.ok(actual && wanted)
  const error = relativeError(actual, wanted)
  assert.ok(error < 1e-4, `${error} off`)
}

describe('batches', () => {
  test('each prompt with its own seed and negative prompt is what it is alone', async () => {
    const prompts = ['a panda', 'a boat']
    const options = { ...small, seed: [1, 2], negativePrompt: ['blurry', ''] }
    const together = await pipeline.generate(prompts, options)
    for (const [index, prompt] of prompts.entries()) {
      const { seed, negativePrompt } = options
      const own = { ...small, seed: seed[index] as number, negativePrompt: negativePrompt[index] as string }
      const alone = await pipeline.generate(prompt, own)
      assertNear(together[index]?.latents?.data, alone.latents?.data)
      assert.deepEqual(together[index]?.latents?.shape, alone.latents?.shape)
      assert.equal(together[index]?.seed, own.seed)
      assert.equal(together[index]?.prompt, prompt)
      assert.equal(together[index]?.negativePrompt, own.negativePrompt)
    }
  })

  test('a list of one prompt gives a list of one video', async () => {
    const videos = await pipeline.generate(['a panda'], small)
    assert.equal(videos.length, 1)
  })

  test('a list of the wrong length is refused', async () => {
    for (const [parameter, value] of [
      ['seed', [1, 2, 3]],
      ['negativePrompt', ['', '', '']],
    ] as const) {
      await assert.rejects(
        pipeline.generate(['a', 'b'], { ...small, [parameter]: value } as GenerateOptions),
        {
          code: 'ERR_INVALID_ARGUMENT',
          parameter,
        },
      )
    }
  })
})

describe('embeddings', () => {
  test('encodePrompt’s embeddings give the prompt’s video', async () => {
    const promptEmbeds = await pipeline.encodePrompt('a panda')
    const negativePromptEmbeds = await pipeline.encodePrompt('blurry')
    assert.deepEqual(promptEmbeds.shape, [1, 77, 32])
    const [video] = await pipeline.generate(undefined, { ...small, promptEmbeds, negativePromptEmbeds })
    const wanted = await pipeline.generate('a panda', { ...small, negativePrompt: 'blurry' })
    assert.deepEqual(video?.data, wanted.data)
    assert.equal(video?.prompt, undefined)
  })

  test('a prompt that is cut short says so', async () => {
    assert.deepEqual((await pipeline.encodePrompt('a panda')).warnings, [])
    const { warnings } = await pipeline.encodePrompt(['a', 'word '.repeat(100)])
    assert.match(warnings.join('\n'), /prompt: the last 25 tokens were cut off/)
  })

  test('clipSkip is encodePrompt’s, for the prompt only', async () => {
    const promptEmbeds = await pipeline.encodePrompt('a panda', { clipSkip: 1 })
    const negativePromptEmbeds = await pipeline.encodePrompt('')
    const [video] = await pipeline.generate(undefined, { ...small, promptEmbeds, negativePromptEmbeds })
    assert.deepEqual(video?.data, (await pipeline.generate('a panda', { ...small, clipSkip: 1 })).data)
  })

  test('without guidance no negative embeddings are needed; with it they are', async () => {
    const promptEmbeds = await pipeline.encodePrompt(['a panda', 'a boat'])
    const videos = await pipeline.generate(undefined, { ...small, promptEmbeds, guidanceScale: 1 })
    assert.equal(videos.length, 2)
    const refused = { code: 'ERR_INVALID_ARGUMENT', parameter: 'negativePromptEmbeds' }
    await assert.rejects(pipeline.generate(undefined, { ...small, promptEmbeds }), refused)
    const negativePromptEmbeds = await pipeline.encodePrompt('one')
    await assert.rejects(
      pipeline.generate(undefined, { ...small, promptEmbeds, negativePromptEmbeds }),
      refused,
    )
    await assert.rejects(pipeline.generate('a', { ...small, promptEmbeds }), { parameter: 'prompt' })
  })
})

describe('latents', () => {
  test('the seed’s own noise as latents gives the seed’s video', async () => {
    const shape = [1, 4, 3, 8, 8]
    const latents = { data: new Generator(5).randn(shape), shape }
    const given = await pipeline.generate('a panda', { ...small, seed: 99, latents })
    assert.deepEqual(given.data, (await pipeline.generate('a panda', small)).data)
  })

  test('latents of another shape are refused', async () => {
    for (const shape of [
      [1, 4, 2, 8, 8],
      [4, 3, 8, 8],
      [2, 4, 3, 8, 8],
    ]) {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1))
      await assert.rejects(pipeline.generate('a', { ...small, latents: { data, shape } }), {
        parameter: 'latents',
      })
    }
  })

  for (const dtype of ['bfloat16', 'float16'] as const) {
    test(`${dtype} from the same latents is near float32`, async () => {
      await using half = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { dtype })
      const shape = [1, 4, 3, 8, 8]
      const options = { ...small, guidanceScale: 1, latents: { data: new Generator(5).randn(shape), shape } }
      const [near, exact] = [
        await half.generate('a panda', options),
        await pipeline.generate('a panda', options),
      ]
      const error = relativeError(near.latents?.data ?? [], exact.latents?.data ?? [])
      assert.ok(error > 0 && error < { bfloat16: 0.1, float16: 0.01 }[dtype], `${error} off`)
    })
  }
})

describe('guidance by step', () => {
  test('the same scale in every step is that scale', async () => {
    const listed = await pipeline.generate('a panda', { ...small, guidanceScale: [7, 7, 7] })
    assert.deepEqual(listed.data, (await pipeline.generate('a panda', { ...small, guidanceScale: 7 })).data)
    assert.deepEqual(listed.guidanceScale, [7, 7, 7])
  })

  test('1 in every step is no guidance, and each step has its own', async () => {
    const none = await pipeline.generate('a panda', { ...small, guidanceScale: 1 })
    const listed = await pipeline.generate('a panda', { ...small, guidanceScale: [1, 1, 1] })
    assertNear(listed.latents?.data, none.latents?.data)
    const mixed = await pipeline.generate('a panda', { ...small, guidanceScale: [9, 1, 9] })
    assert.notDeepEqual(mixed.data, none.data)
  })

  test('one per step, also where a solver calls the network twice a step', async () => {
    const options = { ...small, scheduler: 'heun', guidanceScale: [7, 7, 7] }
    const listed = await pipeline.generate('a panda', options)
    assert.deepEqual(listed.data, (await pipeline.generate('a panda', { ...options, guidanceScale: 7 })).data)
    await assert.rejects(pipeline.generate('a', { ...small, guidanceScale: [7, 7] }), {
      parameter: 'guidanceScale',
    })
  })
})

describe('on the way', () => {
  test('previews come every so many calls, small and of every prompt', async () => {
    const previews: Preview[] = []
    await pipeline.generate(['a panda', 'a boat'], {
      ...{ steps: 7, frames: 3, seed: 1, previewEvery: 2, width: 64, height: 48 },
      onPreview: (preview) => void previews.push(preview),
    })
    assert.deepEqual(
      previews.map(({ index, step, steps }) => [index, step, steps]),
      [2, 4, 6].flatMap((step) => [0, 1].map((index) => [index, step, 7])),
    )
    for (const { video } of previews) {
      assert.deepEqual([video.width, video.height, video.frameCount], [16, 12, 3])
      assert.ok(new Set(video.data).size > 20, 'it is a picture')
    }
  })

  test('a preview’s error ends the job', async () => {
    const error = new Error('from onPreview')
    const onPreview = () => {
      throw error
    }
    await assert.rejects(pipeline.generate('a', { ...small, previewEvery: 1, onPreview }), error)
  })

  test('generateFrames gives every frame of the video, as it is decoded', async () => {
    const wanted = await pipeline.generate(['a panda', 'a boat'], small)
    const seen: number[][] = []
    for await (const { video, index, width, height, data } of pipeline.generateFrames(
      ['a panda', 'a boat'],
      small,
    )) {
      seen.push([video, index])
      assert.deepEqual([width, height], [32, 32])
      assert.deepEqual(new Uint8Array(data), new Uint8Array(wanted[video]?.frame(index) ?? []))
    }
    assert.deepEqual(
      seen,
      [0, 1].flatMap((video) => [0, 1, 2].map((index) => [video, index])),
    )
  })

  test('leaving the loop ends the job; mistakes come out of it', async () => {
    let last = 0
    const onProgress: GenerateOptions['onProgress'] = ({ stage, step }) => {
      if (stage === 'decode') last = step
    }
    for await (const { index } of pipeline.generateFrames('a', { ...small, frames: 60, onProgress })) {
      if (index === 2) break
    }
    await pipeline.generate('a', small)
    assert.ok(last < 60)
    await assert.rejects(
      async () => {
        for await (const _ of pipeline.generateFrames('a', { steps: 0 })) assert.fail()
      },
      { parameter: 'steps' },
    )
  })
})

describe('windows', () => {
  test('a window of all frames, or more, changes nothing', async () => {
    const wanted = await pipeline.generate('a panda', small)
    for (const window of [3, 16, { frames: 3, overlap: 1 }]) {
      assert.deepEqual((await pipeline.generate('a panda', { ...small, window })).data, wanted.data)
    }
  })

  test('windows that do not overlap are videos of their own, from their part of the noise', async () => {
    const shape = [1, 4, 4, 8, 8]
    const noise = new Generator(3).randn(shape)
    const options = { steps: 3, seed: 0, returnLatents: true }
    const half = (from: number) => {
      const data = new Float32Array(4 * 2 * 64)
      for (let channel = 0; channel < 4; channel++) {
        data.set(noise.subarray((channel * 4 + from) * 64, (channel * 4 + from + 2) * 64), channel * 2 * 64)
      }
      return { data, shape: [1, 4, 2, 8, 8] }
    }
    const both = await pipeline.generate('a', {
      ...options,
      ...{ frames: 4, latents: { data: noise, shape }, window: { frames: 2, overlap: 0 } },
    })
    for (const from of [0, 2]) {
      const alone = await pipeline.generate('a', { ...options, frames: 2, latents: half(from) })
      const length = 2 * 32 * 32 * 3
      const part = both.data.subarray((from / 2) * length, (from / 2 + 1) * length)
      const apart = part.map((value, index) => Math.abs(value - (alone.data[index] as number)))
      assert.ok(Math.max(...apart) <= 1)
    }
  })

  test('a window must be longer than its overlap', async () => {
    for (const window of [0, -1, 1.5, { frames: 4, overlap: 4 }, { frames: 4, overlaps: 1 }, {}, 'wide']) {
      await assert.rejects(pipeline.generate('a', { ...small, window } as GenerateOptions), {
        code: 'ERR_INVALID_ARGUMENT',
      })
    }
  })

  test('windows, batches, previews, offload and abort together', async () => {
    await using offloaded = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { offload: 'model' })
    const options: GenerateOptions = { ...small, frames: 10, window: 4, seed: [1, 2] }
    const prompts = ['a panda', 'a boat']
    const wanted = await pipeline.generate(prompts, options)
    const controller = new AbortController()
    let previews = 0
    const onPreview = () => {
      if (++previews === 3) controller.abort('seen enough')
    }
    const aborted = offloaded.generate(prompts, {
      ...options,
      previewEvery: 1,
      onPreview,
      signal: controller.signal,
    })
    await assert.rejects(aborted, (error) => error === 'seen enough')
    const videos = await offloaded.generate(prompts, options)
    for (const [index, video] of videos.entries()) assert.deepEqual(video.data, wanted[index]?.data)
  })
})

describe('a scheduler of the caller’s own', () => {
  test('a program that is not well formed is refused before anything heavy', async () => {
    const clamped = (limit: number) => new ProgramBuilder().call(1).clamp(1, limit).build()
    const many = new ProgramBuilder().call(1)
    for (let register = 2; register < 65; register++) many.register()
    for (const [program, message] of [
      [clamped(-1), /a clamp's limit is -1/],
      [new ProgramBuilder().call(1).threshold(1, 1.5, 1).build(), /ratio is 1.5/],
      [new ProgramBuilder().call(1).threshold(1, 0.5, 0.9).build(), /maximum is 0.9/],
      [new ProgramBuilder().combine(0, [[0, 2]]).build(), /never calls the network/],
      [many.build(), /2 to 64 registers, not 65/],
      [{ ...clamped(1), registers: 1 }, /2 to 64 registers, not 1/],
      [{ ...clamped(1), code: [0, 1, 1] }, /Float64Array/],
      [undefined, /Float64Array/],
    ] as [unknown, RegExp][]) {
      const scheduler = { name: 'Own', config: {}, program: () => program } as unknown as Scheduler
      const onProgress = () => assert.fail('the job began')
      await assert.rejects(pipeline.generate('a', { ...small, scheduler, onProgress }), {
        ...{ code: 'ERR_INVALID_ARGUMENT', parameter: 'program', message },
      })
    }
  })

  test('the example of docs/schedulers.md is the checkpoint’s DDIM', async () => {
    const page = readFileSync(`${repository}docs/schedulers.md`, 'utf8')
    const example = /```js\nimport \{ ProgramBuilder \} from 'torchreel'\n([\s\S]*?)await pipeline/.exec(
      page,
    )?.[1]
    assert.ok(example)
    const make = new Function('ProgramBuilder', `${example}; return plainDDIM`)
    const scheduler = make(ProgramBuilder) as Scheduler
    const own = await pipeline.generate('a panda', { ...small, steps: 20, scheduler })
    const wanted = await pipeline.generate('a panda', { ...small, steps: 20, scheduler: 'checkpoint' })
    assertNear(own.latents?.data, wanted.latents?.data)
    assert.equal(own.scheduler, 'PlainDDIM')
  })
})
