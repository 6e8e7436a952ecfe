// torchreel's models in this process, through the AI SDK's own functions. Run for both versions of `ai`.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, describe, test } from 'node:test'
import * as ai6 from 'ai-6'
import * as ai7 from 'ai-7'
import { generate, TorchreelError } from 'torchreel'
import { torchreel } from 'torchreel/ai-sdk'
import { repository } from '../support/fixtures.js'

// Warnings are asserted on; ai would print them, too.
globalThis.AI_SDK_LOG_WARNINGS = false

const steps = { providerOptions: { torchreel: { steps: 2 } } }
const prompt = 'a big red circle moving left'
const factsOf = (metadata: Record<string, { videos?: unknown }>) =>
  (metadata.torchreel?.videos ?? []) as Record<string, unknown>[]

for (const [name, { experimental_generateVideo: generateVideo, customProvider }] of [
  ['ai 6', ai6],
  ['ai 7', ai7 as unknown as typeof ai6],
] as const) {
  describe(name, () => {
    const model = torchreel('shapes')
    after(() => model.dispose())

    test('makes the video that torchreel makes, with its facts', async () => {
      const call = { model, prompt, seed: 7, ...steps }
      const { video, videos, warnings, providerMetadata, responses } = await generateVideo(call)
      assert.equal(videos.length, 1)
      assert.equal(video.mediaType, 'video/mp4')
      assert.equal(Buffer.from(video.uint8Array).toString('latin1', 4, 8), 'ftyp')
      const same = await generate(prompt, { model: 'shapes', steps: 2, seed: 7 })
      assert.deepEqual(Buffer.from(video.uint8Array), await same.toBuffer('mp4'))
      assert.deepEqual(warnings, [])
      const [facts] = factsOf(providerMetadata)
      assert.equal(facts?.seed, 7)
      assert.equal(facts?.steps, 2)
      assert.equal(facts?.frameCount, same.frameCount)
      assert.equal(responses[0]?.modelId, 'shapes')
    })

    test('several videos of one call have the seeds after the first', async () => {
      const { videos, providerMetadata } = await generateVideo({ model, prompt, n: 2, seed: 7, ...steps })
      const facts = factsOf(providerMetadata)
      assert.deepEqual(
        facts.map(({ seed }) => seed),
        [7, 8],
      )
      assert.notDeepEqual(videos[0]?.uint8Array, videos[1]?.uint8Array)
    })

    test('resolution, fps and duration; what is rounded or not supported is said', async () => {
      const { warnings, providerMetadata } = await generateVideo({
        ...{
          model,
          prompt,
          resolution: '32x40',
          fps: 4,
          duration: 0.7,
          aspectRatio: '4:5',
          generateAudio: true,
        },
        ...steps,
      })
      const [facts] = factsOf(providerMetadata)
      const { width, height, fps, frameCount } = facts ?? {}
      assert.deepEqual({ width, height, fps, frameCount }, { width: 32, height: 40, fps: 4, frameCount: 3 })
      const said = warnings.map((one) => (one.type === 'unsupported' ? one.feature : JSON.stringify(one)))
      assert.deepEqual(said.slice(0, 2), ['aspectRatio', 'generateAudio'])
      assert.match(said[2] ?? '', /0\.7 seconds became 3 frames at 4 frames per second/)
    })

    test('starts from a video, and leaves no file behind; an image is not used, a URL is refused', async () => {
      const files = () => readdirSync(tmpdir()).filter((file) => file.startsWith('torchreel-source-'))
      const before = files()
      const source = await (await generate(prompt, { model: 'shapes', steps: 2, seed: 1 })).toBuffer('mp4')
      const start = { data: source, mediaType: 'video/mp4' }
      const image = { data: Buffer.from('png'), mediaType: 'image/png' }
      const settings = { steps: 4, strength: 0.5 }
      const call = { model, prompt, seed: 7, providerOptions: { torchreel: settings } }
      const { warnings, providerMetadata } = await generateVideo({ ...call, inputReferences: [image, start] })
      const [facts] = factsOf(providerMetadata)
      assert.equal(facts?.strength, 0.5)
      assert.deepEqual(warnings[0], {
        ...{ type: 'unsupported', feature: 'inputReferences', details: 'images are not used' },
      })
      assert.deepEqual(files(), before)
      await assert.rejects(generateVideo({ ...call, inputReferences: ['https://example.com/a.mp4'] }), {
        code: 'ERR_INVALID_ARGUMENT',
        parameter: 'inputReferences',
      })
    })

    test('an abort ends the call with its reason', async () => {
      const aborted = new AbortController()
      const watched = torchreel('shapes', {
        steps: 1000,
        onProgress: () => aborted.abort(new Error('enough')),
      })
      const call = generateVideo({ model: watched, prompt, abortSignal: aborted.signal })
      await assert.rejects(call, { message: 'enough' })
      await watched.dispose()
    })

    test('mistakes are TorchreelErrors, and are not tried again', async () => {
      const wrong = (options: object) =>
        generateVideo({ model: torchreel('no such model'), prompt, ...options })
      const mistakes: [string, object][] = [
        ['providerOptions.torchreel.step', { providerOptions: { torchreel: { step: 2 } } }],
        ['providerOptions.torchreel.steps', { providerOptions: { torchreel: { steps: 0 } } }],
        ['resolution', { resolution: 'large' }],
        ['fps', { fps: 0 }],
        ['duration', { duration: -1 }],
        ['providerOptions.torchreel.frames', { duration: 1, providerOptions: { torchreel: { frames: 8 } } }],
        ['prompt', { prompt: { image: Buffer.from('png') } }],
      ]
      for (const [parameter, options] of mistakes) {
        const error = await wrong(options).then(
          () => assert.fail(parameter),
          (error: unknown) => error,
        )
        assert.ok(error instanceof TorchreelError, `${parameter}: ${error}`)
        assert.deepEqual([error.code, error.parameter], ['ERR_INVALID_ARGUMENT', parameter])
      }
      await assert.rejects(wrong({}), { code: 'ERR_MODEL_NOT_FOUND' })
      assert.throws(() => torchreel('shapes', { step: 3 } as object), { code: 'ERR_INVALID_ARGUMENT' })
      assert.throws(() => torchreel('shapes', { steps: 0 }), { code: 'ERR_INVALID_ARGUMENT' })
      assert.throws(() => torchreel('shapes', { device: 'tpu' } as object), { code: 'ERR_INVALID_ARGUMENT' })
    })

    test('a custom provider takes the models', () => {
      assert.equal(customProvider({ videoModels: { small: model } }).videoModel('small').modelId, 'shapes')
    })
  })
}

describe('ai 7: started, then asked for', () => {
  const { experimental_generateVideo, experimental_startVideo, experimental_getVideoStatus } = ai7
  const model = torchreel('shapes', { steps: 2 })
  after(() => model.dispose())

  test('generateVideo with poll', async () => {
    const { video, providerMetadata } = await experimental_generateVideo({
      ...{ model, prompt, seed: 7, poll: { intervalMs: 10 } },
    })
    const same = await generate(prompt, { model: 'shapes', steps: 2, seed: 7 })
    assert.deepEqual(Buffer.from(video.uint8Array), await same.toBuffer('mp4'))
    assert.equal(factsOf(providerMetadata)[0]?.seed, 7)
  })

  test('startVideo, getVideoStatus; the result is there for a second look', async () => {
    const { operation } = await experimental_startVideo({ model, prompt, seed: 7, aspectRatio: '1:1' })
    const ask = () => experimental_getVideoStatus(model, { operation: JSON.parse(JSON.stringify(operation)) })
    let seen = await ask()
    while (seen.status === 'pending') {
      await new Promise((resolve) => setTimeout(resolve, 10))
      seen = await ask()
    }
    assert.equal(seen.status, 'completed')
    assert.deepEqual((await ask()).status, 'completed')
    await assert.rejects(experimental_getVideoStatus(model, { operation: { id: 'another' } }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'operation',
    })
  })

  test('a failure is told by the status, an abort ends the video', async () => {
    const aborted = new AbortController()
    const { operation } = await experimental_startVideo({
      ...{ model, prompt, abortSignal: aborted.signal, providerOptions: { torchreel: { steps: 1000 } } },
    })
    aborted.abort(new Error('enough'))
    let seen = await experimental_getVideoStatus(model, { operation })
    while (seen.status === 'pending') {
      await new Promise((resolve) => setTimeout(resolve, 10))
      seen = await experimental_getVideoStatus(model, { operation })
    }
    assert.equal(seen.status === 'error' && seen.error, 'enough')
  })
})

test('a registry of ai 7 finds the models', () => {
  const registry = ai7.createProviderRegistry({ torchreel: torchreel as never })
  const { modelId, specificationVersion } = registry.videoModel('torchreel:shapes' as never)
  assert.deepEqual([modelId, specificationVersion], ['shapes', 'v4'])
})

test("import 'torchreel' does not load it", () => {
  const loaded = ['index.js', 'torchreel.js'].map((file) => readFileSync(`${repository}dist/${file}`, 'utf8'))
  assert.ok(readFileSync(`${repository}dist/ai_sdk/index.js`, 'utf8').includes('createTorchreel'))
  for (const text of loaded) assert.ok(!/ai_sdk|createTorchreel/.test(text))
})

test('a disposed model loads again', async () => {
  await using model = torchreel('shapes', { steps: 2 })
  const call = { model, prompt, seed: 7 }
  const first = await ai6.experimental_generateVideo(call)
  await model.dispose()
  const second = await ai6.experimental_generateVideo(call)
  assert.deepEqual(first.video.uint8Array, second.video.uint8Array)
})
