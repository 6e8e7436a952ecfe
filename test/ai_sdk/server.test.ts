// torchreel's models on a server, through the AI SDK's own functions, against a small fake of the server's interface.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as ai6 from 'ai-6'
import * as ai7 from 'ai-7'
import { createTorchreel, ServerCallError } from 'torchreel/ai-sdk'
import { FakeServer, refuse } from './fake_server.js'

globalThis.AI_SDK_LOG_WARNINGS = false

const prompt = 'a boat'
const baseURL = 'http://server.test/v1/'

function setup() {
  const server = new FakeServer()
  return { server, model: createTorchreel({ baseURL, apiKey: 'secret', fetch: server.fetch })('shapes') }
}

/** Ends every video with success as soon as somebody listens to its events. */
async function complete(server: FakeServer, ...ids: string[]) {
  for (const id of ids) {
    await server.request('GET', new RegExp(`${id}/events`))
    server.end(id, 'completed')
  }
}

for (const [name, { experimental_generateVideo: generateVideo }] of [
  ['ai 6', ai6],
  ['ai 7', ai7 as unknown as typeof ai6],
] as const) {
  describe(name, () => {
    test('sends the fields under their names there, and waits for the events', async () => {
      const { server, model } = setup()
      const torchreel = { steps: 2, guidanceScale: 4, freeU: { s1: 1, s2: 1, b1: 1, b2: 1 }, frames: 8 }
      const call = generateVideo({
        ...{ model, prompt, seed: 7, resolution: '64x32', fps: 4, headers: { 'x-mine': 'yes' } },
        providerOptions: { torchreel },
      })
      await complete(server, 'video_1')
      const { video, warnings, providerMetadata } = await call
      assert.equal(Buffer.from(video.uint8Array).toString(), 'the video video_1')
      assert.deepEqual(warnings, [{ type: 'other', message: 'a warning of the server' }])
      const [facts] = (providerMetadata.torchreel?.videos ?? []) as Record<string, unknown>[]
      assert.deepEqual([facts?.id, facts?.seed], ['video_1', 7])
      const create = await server.request('POST', /^\/videos$/)
      assert.deepEqual(create.body, {
        ...{ model: 'shapes', prompt, num_inference_steps: 2, guidance_scale: 4, num_frames: 8 },
        ...{ free_u: torchreel.freeU, width: 64, height: 32, fps: 4, seed: 7 },
      })
      for (const { headers } of server.seen) {
        assert.equal(headers.get('authorization'), 'Bearer secret')
        assert.equal(headers.get('x-mine'), 'yes')
      }
    })

    test('several videos have seeds and keys of their own', async () => {
      const { server, model } = setup()
      const call = generateVideo({ model, prompt, n: 3, seed: 7, headers: { 'Idempotency-Key': 'mine' } })
      await complete(server, 'video_1', 'video_2', 'video_3')
      assert.equal((await call).videos.length, 3)
      const creates = server.seen.filter(({ method }) => method === 'POST')
      assert.deepEqual(
        creates.map(({ body, headers }) => [body.seed, headers.get('idempotency-key')]),
        [
          [7, 'mine'],
          [8, 'mine-1'],
          [9, 'mine-2'],
        ],
      )
      for (const { method, headers } of server.seen)
        if (method === 'GET') assert.equal(headers.get('idempotency-key'), null)
    })

    test('a video to start from goes as a file', async () => {
      const { server, model } = setup()
      const data = Buffer.from('a video')
      const call = generateVideo({
        model,
        prompt,
        inputReferences: [{ data, mediaType: 'video/mp4' }],
        duration: 2,
      })
      await complete(server, 'video_1')
      await call
      const { body } = await server.request('POST', /^\/videos$/)
      assert.deepEqual(body, { model: 'shapes', prompt, seconds: '2', input_reference: data })
    })

    test('a duration that the server cannot keep is said', async () => {
      const { server, model } = setup()
      const call = generateVideo({ model, prompt, duration: 1.9 })
      await complete(server, 'video_1')
      assert.deepEqual((await call).warnings[0], {
        ...{ type: 'other', message: 'duration: 1.9 seconds became 2 seconds' },
      })
    })

    test('a lost answer and a refusal for now make no second video', async () => {
      const { server, model } = setup()
      server.next.push('lost')
      server.next.push(refuse(429, { message: 'the queue is full' }, { 'retry-after-ms': '5' }))
      const call = generateVideo({ model, prompt })
      await complete(server, 'video_1')
      await call
      assert.equal(server.videos.size, 1)
      assert.equal(server.seen.filter(({ method }) => method === 'POST').length, 3)
    })

    test('a mistake is told once, with the words of the server', async () => {
      const { server, model } = setup()
      const error = {
        message: 'there is no field x',
        type: 'invalid_request_error',
        param: 'x',
        code: 'err_invalid_argument',
      }
      server.next.push(refuse(400, error))
      await assert.rejects(generateVideo({ model, prompt }), (thrown) => {
        assert.ok(thrown instanceof ServerCallError && ai6.APICallError.isInstance(thrown))
        assert.ok(ai7.APICallError.isInstance(thrown))
        assert.deepEqual([thrown.message, thrown.statusCode, thrown.isRetryable], [error.message, 400, false])
        assert.deepEqual(thrown.data, error)
        return true
      })
      assert.equal(server.seen.length, 1)
    })

    test('a video that fails is not tried again', async () => {
      const { server, model } = setup()
      const call = generateVideo({ model, prompt })
      await server.request('GET', /events/)
      server.end('video_1', 'failed', { code: 'ERR_NUMERIC', message: 'not a number' })
      await assert.rejects(call, { message: 'not a number', isRetryable: false })
      assert.equal(server.videos.size, 1)
    })

    test('an abort cancels on the server, also before its answer has come', async () => {
      const { server, model } = setup()
      const aborted = new AbortController()
      const call = generateVideo({ model, prompt, abortSignal: aborted.signal })
      await server.request('GET', /events/)
      aborted.abort(new Error('enough'))
      await assert.rejects(call, { message: 'enough' })
      assert.equal(server.videos.get('video_1')?.error?.code, 'cancelled')

      const early = new AbortController()
      const second = generateVideo({ model, prompt, abortSignal: early.signal })
      early.abort(new Error('at once'))
      await assert.rejects(second, { message: 'at once' })
      for (const { error } of server.videos.values()) assert.equal(error?.code, 'cancelled')
    })

    test('a download that breaks off is done again', async () => {
      const { server, model } = setup()
      const call = generateVideo({ model, prompt })
      await server.request('GET', /events/)
      const cut = new ReadableStream({
        start: (controller) => controller.enqueue(Buffer.from('half')),
        pull: (controller) => controller.error(new TypeError('terminated')),
      })
      server.next.push(new Response(cut))
      server.end('video_1', 'completed')
      assert.equal(Buffer.from((await call).video.uint8Array).toString(), 'the video video_1')
    })

    test('a server that is away for a moment loses no video', async () => {
      const { server, model } = setup()
      const call = generateVideo({ model, prompt })
      await server.request('GET', /events/)
      server.next.push('lost', 'lost')
      server.breakStream('video_1')
      server.end('video_1', 'completed')
      assert.equal(Buffer.from((await call).video.uint8Array).toString(), 'the video video_1')
      assert.equal(server.videos.size, 1)
    })
  })
}

describe('ai 7: started, then asked for', () => {
  const { experimental_generateVideo, experimental_startVideo, experimental_getVideoStatus } = ai7

  test('generateVideo with poll sends the key of the SDK', async () => {
    const { server, model } = setup()
    const call = experimental_generateVideo({ model, prompt, poll: { intervalMs: 5 } })
    await server.request('GET', /^\/videos\/video_1$/)
    server.end('video_1', 'completed')
    assert.equal(Buffer.from((await call).video.uint8Array).toString(), 'the video video_1')
    const { headers } = await server.request('POST', /^\/videos$/)
    assert.match(headers.get('idempotency-key') ?? '', /^aisdk_vid_/)
  })

  test('startVideo, getVideoStatus: also by another process', async () => {
    const { server, model } = setup()
    const { operation } = await experimental_startVideo({ model, prompt, n: 2 })
    const elsewhere = createTorchreel({ baseURL, fetch: server.fetch })('shapes')
    const ask = () =>
      experimental_getVideoStatus(elsewhere, { operation: JSON.parse(JSON.stringify(operation)) })
    assert.equal((await ask()).status, 'pending')
    server.end('video_1', 'completed')
    assert.equal((await ask()).status, 'pending')
    server.end('video_2', 'completed')
    const seen = await ask()
    assert.equal(seen.status === 'completed' && seen.videos.length, 2)
    await assert.rejects(experimental_getVideoStatus(elsewhere, { operation: 'video_1' }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'operation',
    })
  })

  test('an abort after the start cancels on the server, and the status tells it', async () => {
    const { server, model } = setup()
    const aborted = new AbortController()
    const { operation } = await experimental_startVideo({ model, prompt, abortSignal: aborted.signal })
    aborted.abort()
    await server.request('POST', /video_1\/cancel/)
    const seen = await experimental_getVideoStatus(model, { operation })
    assert.deepEqual([seen.status, seen.status === 'error' && seen.error], ['error', 'cancelled'])
  })
})

test('wrong options of a server are refused at once', () => {
  for (const options of [
    { baseURL: 'server.test' },
    { apiKey: '' },
    { fetch: 'fetch' },
    { baseUrl: baseURL },
  ])
    assert.throws(() => createTorchreel(options as object), { code: 'ERR_INVALID_ARGUMENT' })
})
