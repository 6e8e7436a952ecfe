// The AI SDK's own functions with createTorchreel, against a server with `shapes`.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import * as ai6 from 'ai-6'
import * as ai7 from 'ai-7'
import { createTorchreel, type ServerCallError } from 'torchreel/ai-sdk'
import { type StartedServer, startServer } from './start_server.js'

globalThis.AI_SDK_LOG_WARNINGS = false

const prompt = 'a big red circle moving left'
const steps = { providerOptions: { torchreel: { steps: 2 } } }

let server: StartedServer
before(async () => {
  server = await startServer()
})
after(() => server.stop())

const connect = () => createTorchreel({ baseURL: `${server.url}/v1` })('shapes')
const factsOf = (metadata: Record<string, { videos?: unknown }>) =>
  (metadata.torchreel?.videos ?? []) as { id: string; seed: number }[]

interface Listed {
  data: { id: string; prompt: string; torchreel: { state: string } }[]
}
async function videosOf(wanted: string): Promise<Listed['data']> {
  const { data } = (await (await fetch(`${server.url}/v1/videos?limit=100`)).json()) as Listed
  return data.filter((video) => video.prompt === wanted)
}

for (const [name, { experimental_generateVideo: generateVideo }] of [
  ['ai 6', ai6],
  ['ai 7', ai7 as unknown as typeof ai6],
] as const) {
  describe(name, () => {
    test('case 16: generateVideo gives the file of the server, with its facts', async () => {
      const { video, providerMetadata, warnings } = await generateVideo({
        ...{ model: connect(), prompt, seed: 7, resolution: '64x64' as const, fps: 8, duration: 2 },
        ...steps,
      })
      const [facts] = factsOf(providerMetadata)
      assert.equal(facts?.seed, 7)
      const file = await fetch(`${server.url}/v1/videos/${facts.id}/content`)
      assert.deepEqual(Buffer.from(video.uint8Array), Buffer.from(await file.arrayBuffer()))
      assert.deepEqual(warnings, [])
    })

    test('case 16: several videos, and one that starts from a video', async () => {
      const call = { model: connect(), prompt, seed: 7, ...steps }
      const { videos, providerMetadata } = await generateVideo({ ...call, n: 2 })
      assert.deepEqual(
        factsOf(providerMetadata).map(({ seed }) => seed),
        [7, 8],
      )
      const source = { data: videos[0]?.uint8Array as Uint8Array, mediaType: 'video/mp4' }
      const torchreel = { steps: 4, strength: 0.5 }
      const changed = await generateVideo({
        ...{ model: connect(), prompt: 'a blue circle', inputReferences: [source] },
        providerOptions: { torchreel },
      })
      assert.equal(changed.video.mediaType, 'video/mp4')
    })

    test('case 16: a mistake that only the server can see is told once, with its words', async () => {
      const wrong = generateVideo({ model: connect(), prompt, resolution: '60x60', ...steps })
      await assert.rejects(wrong, (error: ServerCallError) => {
        assert.ok(ai6.APICallError.isInstance(error) && ai7.APICallError.isInstance(error))
        assert.deepEqual([error.statusCode, error.isRetryable], [400, false])
        assert.match(error.message, /a multiple of 8/)
        return true
      })
      const unknown = createTorchreel({ baseURL: `${server.url}/v1` })('sora-2')
      await assert.rejects(generateVideo({ model: unknown, prompt }), { statusCode: 404 })
    })

    test('case 16: an abort cancels on the server', async () => {
      const aborted = new AbortController()
      const long = `a circle that ${name} aborts`
      const settings = { providerOptions: { torchreel: { steps: 200 } } }
      const call = generateVideo({ model: connect(), prompt: long, abortSignal: aborted.signal, ...settings })
      while ((await videosOf(long)).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
      aborted.abort(new Error('enough'))
      await assert.rejects(call, { message: 'enough' })
      const [video, ...more] = await videosOf(long)
      assert.deepEqual(more, [])
      assert.ok(['cancelling', 'cancelled'].includes(video?.torchreel.state ?? ''))
    })
  })
}

describe('ai 7: started, then asked for', () => {
  const { experimental_generateVideo, experimental_startVideo, experimental_getVideoStatus } = ai7

  test('case 16: generateVideo with poll', async () => {
    const call = { model: connect(), prompt, seed: 7, ...steps, poll: { intervalMs: 100 } }
    const { providerMetadata } = await experimental_generateVideo(call)
    assert.equal(factsOf(providerMetadata)[0]?.seed, 7)
  })

  test('case 14: startVideo with one Idempotency-Key gives one video', async () => {
    const call = { model: connect(), prompt, seed: 7, ...steps, headers: { 'idempotency-key': 'mine' } }
    const [first, second] = await Promise.all([experimental_startVideo(call), experimental_startVideo(call)])
    assert.deepEqual(first.operation, second.operation)
    let seen = await experimental_getVideoStatus(connect(), { operation: first.operation })
    while (seen.status === 'pending') {
      await new Promise((resolve) => setTimeout(resolve, 50))
      seen = await experimental_getVideoStatus(connect(), { operation: first.operation })
    }
    assert.equal(seen.status === 'completed' && seen.videos.length, 1)
  })
})
