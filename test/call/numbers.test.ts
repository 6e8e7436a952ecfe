// Numbers that are not finite, too large for half precision, or out of a pixel's range.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { changedWeights } from '../support/changed_checkpoint.js'
import { startNode } from '../support/child.js'
import { tinyCheckpoint } from '../support/fixtures.js'

const options = { steps: 2, frames: 2, seed: 4 }
const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())
const golden = await pipeline.generate('a panda', options)

const broken = (component: string, name: string, value = Number.NaN) =>
  changedWeights(component, (tensors) => {
    const tensor = tensors.get(name)
    assert.ok(tensor)
    tensor.bytes.writeFloatLE(value, 0)
  })

describe('not finite', () => {
  for (const [component, name, stage, step] of [
    ['text_encoder', 'text_model.final_layer_norm.weight', 'encode', 1],
    ['unet', 'conv_out.bias', 'denoise', 1],
    ['vae', 'decoder.conv_out.bias', 'decode', 1],
  ] as const) {
    for (const value of stage === 'decode' ? [Number.NaN, Number.POSITIVE_INFINITY] : [Number.NaN]) {
      test(`[weights-not-finite] ${value} in the ${component} ends the job at its stage and step; the pipeline goes on`, async () => {
        const model = broken(component, name, value)
        await using own = await TextToVideoPipeline.fromPretrained(model)
        const refused = { code: 'ERR_NUMERIC', stage, step, message: /float32.*bfloat16/ }
        await assert.rejects(own.generate('a panda', options), refused)
        await assert.rejects(own.generate('a panda', options), refused)
      })
    }
  }

  test('[weights-not-finite] allowNonFinite goes on, and what is not finite becomes black', async () => {
    await using own = await TextToVideoPipeline.fromPretrained(broken('vae', 'decoder.conv_out.bias'))
    const video = await own.generate('a panda', { ...options, allowNonFinite: true })
    const red = video.data.filter((_, index) => index % 3 === 0)
    assert.deepEqual(new Set(red), new Set([0]))
    const others = (data: Uint8Array) => data.filter((_, index) => index % 3 > 0)
    assert.deepEqual(others(video.data), others(golden.data))
  })
})

// On a GPU the VAE overflows and is computed again: that is among the checks of devices, test/native/device.
describe('float16 on a CPU, which is computed in float32', () => {
  // The first layer's results are over 65504; the last normalises them again.
  const loud = (part: string, factor: number) =>
    changedWeights('vae', (tensors) => {
      for (const name of ['weight', 'bias']) {
        const bytes = tensors.get(`${part}.conv_in.${name}`)?.bytes
        assert.ok(bytes)
        for (let at = 0; at < bytes.length; at += 4) bytes.writeFloatLE(bytes.readFloatLE(at) * factor, at)
      }
    })

  test('a VAE whose numbers it does not have is decoded near float32', async () => {
    const model = loud('decoder', 2e4)
    const [exact, half] = await Promise.all(
      (['float32', 'float16'] as const).map(async (dtype) => {
        await using own = await TextToVideoPipeline.fromPretrained(model, { dtype })
        const shape = [1, 4, 2, 8, 8]
        const latents = { data: golden.latents?.data ?? new Float32Array(512).fill(0.25), shape }
        const call = { ...options, latents, guidanceScale: 1 }
        const videos = [await own.generate('a', call), await own.generate('a', call)]
        assert.deepEqual(videos[0]?.data, videos[1]?.data)
        return videos[1]
      }),
    )
    assert.deepEqual(exact?.warnings, [])
    assert.match(
      half?.warnings.join() ?? '',
      /^dtype 'float16' is slow on this CPU, so the networks compute in float32/,
    )
    const apart = half?.data.map((value, index) => Math.abs(value - (exact?.data[index] as number)))
    assert.ok(Math.max(...(apart ?? [255])) < 16, 'near float32')
  })

  test('and so is a video that is encoded', async () => {
    const [exact, half] = await Promise.all(
      (['float32', 'float16'] as const).map(async (dtype) => {
        await using own = await TextToVideoPipeline.fromPretrained(loud('encoder', 2e5), { dtype })
        return await own.generate('a', { ...options, video: golden })
      }),
    )
    const apart = half?.data.map((value, index) => Math.abs(value - (exact?.data[index] as number)))
    assert.ok(Math.max(...(apart ?? [255])) < 16, 'near float32')
  })

  test('the only warning is of its speed', async () => {
    await using half = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { dtype: 'float16' })
    const { warnings } = await half.generate('a', options)
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] as string, /^dtype 'float16' is slow on this CPU/)
  })
})

test('where bfloat16 is not multiplied fast, the networks compute in float32, and a warning says so', async () => {
  const program = `
    import { generate } from 'torchreel'
    const { warnings } = await generate('a panda', {
      model: ${JSON.stringify(tinyCheckpoint)}, dtype: 'bfloat16', steps: 1, frames: 1,
    })
    console.log(warnings.join())`
  const older = { ...process.env, DNNL_MAX_CPU_ISA: 'AVX512_CORE' } // hides AVX512-BF16 and AMX from oneDNN
  const { code, stdout, stderr } = await startNode(['--input-type=module', '-e', program], older).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.match(stdout, /^dtype 'bfloat16' is slow on this CPU, so the networks compute in float32/)
})

test('[pixels-out-of-range] what the VAE gives outside of [-1, 1] is clamped', async () => {
  const model = changedWeights('vae', (tensors) => {
    const bytes = tensors.get('decoder.conv_out.bias')?.bytes
    for (const [channel, value] of [1000, -1000].entries()) bytes?.writeFloatLE(value, 4 * channel)
  })
  await using own = await TextToVideoPipeline.fromPretrained(model)
  const { data } = await own.generate('a panda', options)
  for (let at = 0; at < data.length; at += 3) {
    assert.deepEqual([data[at], data[at + 1], data[at + 2]], [255, 0, golden.data[at + 2]])
  }
})

test('[same-seed] the same seed gives the same frames in another pipeline', async () => {
  await using other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
  assert.deepEqual((await other.generate('a panda', options)).data, golden.data)
})
