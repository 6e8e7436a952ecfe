// Bounds that hold unless the caller sets others, each with its error.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { generate, type PipelineOptions, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'

const open = (limits: PipelineOptions['limits']) =>
  TextToVideoPipeline.fromPretrained(tinyCheckpoint, { limits })
const small = { steps: 1, frames: 2, width: 8, height: 8 }

describe('limits', () => {
  test('[too-many-pixels] pixels', async () => {
    await using pipeline = await open({ pixels: 2 * 8 * 8 })
    await pipeline.generate('a', small)
    await assert.rejects(pipeline.generate('a', { ...small, frames: 3 }), {
      ...{
        code: 'ERR_LIMIT_EXCEEDED',
        parameter: 'frames',
        expected: 'at most 128 pixels of all videos',
        received: 192,
      },
    })
    await assert.rejects(pipeline.generate(['a', 'b'], small), { code: 'ERR_LIMIT_EXCEEDED' })
    await assert.rejects(generate('a', { model: '/nowhere', ...small, limits: { pixels: 1 } }), {
      code: 'ERR_LIMIT_EXCEEDED',
    })
  })

  test('[prompt-length] the length of prompts', async () => {
    await using pipeline = await open({ promptLength: 5 })
    const refused = (parameter: string) => ({ code: 'ERR_LIMIT_EXCEEDED', parameter, received: 6 })
    await pipeline.generate('12345', small)
    await assert.rejects(pipeline.generate('123456', small), refused('prompt'))
    await assert.rejects(
      pipeline.generate('1', { ...small, negativePrompt: '123456' }),
      refused('negativePrompt'),
    )
    await assert.rejects(pipeline.encodePrompt('123456'), refused('prompt'))
  })

  test('[wrong-prompt-type] the number of prompts', async () => {
    await using pipeline = await open({ prompts: 2 })
    const refused = { code: 'ERR_LIMIT_EXCEEDED', parameter: 'prompt', received: 3 }
    await assert.rejects(pipeline.generate(['a', 'b', 'c'], small), refused)
    await assert.rejects(pipeline.encodePrompt(['a', 'b', 'c']), refused)
    const endless = new Array<string>(2 ** 32 - 1)
    await assert.rejects(pipeline.generate(endless, small), { code: 'ERR_LIMIT_EXCEEDED' })
    await assert.rejects(pipeline.encodePrompt([]), { code: 'ERR_INVALID_ARGUMENT', parameter: 'prompt' })
  })

  test('[full-queue] the queue', async () => {
    await using pipeline = await open({ queue: 2 })
    const jobs = await Promise.allSettled([1, 2, 3].map((seed) => pipeline.generate('a', { ...small, seed })))
    assert.deepEqual(
      jobs.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'rejected'],
    )
    assert.equal(jobs[2]?.status === 'rejected' && jobs[2].reason.code, 'ERR_QUEUE_FULL')
  })

  test('[header-length] the header of a safetensors file', () =>
    assert.rejects(open({ headerBytes: 100 }), {
      code: 'ERR_MODEL_CORRUPT',
      message: /header claims \d+ bytes, more than 100/,
    }))

  test('[unknown-option] mistakes in the limits', async () => {
    for (const [limits, parameter] of [
      [{ pixel: 1 }, 'limits.pixel'],
      [{ pixels: 0 }, 'limits.pixels'],
      [{ queue: '2' }, 'limits.queue'],
      [5, 'limits'],
    ] as const) {
      await assert.rejects(open(limits as never), { code: 'ERR_INVALID_ARGUMENT', parameter })
    }
  })
})
