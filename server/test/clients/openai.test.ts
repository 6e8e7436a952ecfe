// The stock `openai` clients, as they come, against a server with `shapes`.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import OpenAI6, * as errors6 from 'openai-6'
import OpenAI7, * as errors7 from 'openai-7'
import { addKey } from '#server/http/keys.js'
import { type StartedServer, startServer } from './start_server.js'

type Client = OpenAI6
type Video = Awaited<ReturnType<Client['videos']['retrieve']>> & {
  torchreel: { state: string; seed: number; settings?: { num_inference_steps: number } }
}

/** Fields that the client passes on without knowing them. */
const small = { num_inference_steps: 2, seed: 7 } as object
const prompt = 'a big red circle moving left'

let server: StartedServer
before(async () => {
  server = await startServer()
})
after(() => server.stop())

for (const [name, OpenAI, errors] of [
  ['openai 6', OpenAI6, errors6],
  ['openai 7', OpenAI7 as unknown as typeof OpenAI6, errors7 as unknown as typeof errors6],
] as const) {
  describe(name, () => {
    const connect = (options: object = {}) =>
      new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'no key is wanted', ...options })

    async function ended(client: Client, { id }: { id: string }): Promise<Video> {
      for (;;) {
        const video = (await client.videos.retrieve(id)) as Video
        if (video.status === 'completed' || video.status === 'failed') return video
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }

    const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer())

    test('case 16: create by multipart and by JSON give the same video; its variants', async () => {
      const client = connect()
      const created = (await client.videos.create({ prompt, size: '64x64' as never, ...small })) as Video
      assert.deepEqual([created.object, created.model, created.size], ['video', 'shapes', '64x64'])
      assert.ok(created.status === 'queued' || created.status === 'in_progress')
      const first = await ended(client, created)
      assert.deepEqual([first.status, first.progress, first.error], ['completed', 100, null])
      assert.equal(first.torchreel.seed, 7)
      assert.ok(first.completed_at && first.completed_at >= first.created_at)
      const body = { prompt, width: 64, height: 64, ...small }
      const second = await ended(client, await client.post<Video>('/videos', { body }))

      const video = await client.videos.downloadContent(first.id)
      assert.equal(video.headers.get('content-type'), 'video/mp4')
      const bytes = await bytesOf(video)
      assert.equal(bytes.toString('latin1', 4, 8), 'ftyp')
      assert.deepEqual(await bytesOf(await client.videos.downloadContent(second.id)), bytes)
      for (const variant of ['thumbnail', 'spritesheet'] as const) {
        const picture = await client.videos.downloadContent(first.id, { variant })
        assert.equal(picture.headers.get('content-type'), 'image/png')
        assert.equal((await bytesOf(picture)).toString('latin1', 1, 4), 'PNG')
      }
    })

    test('case 16: list over three pages, both ways', async () => {
      const client = connect()
      const made: string[] = []
      for (let count = 0; count < 5; count++)
        made.push((await client.videos.create({ prompt: `a circle ${count}`, ...small })).id)
      const newest: string[] = []
      let pages = 0
      for await (const page of (await client.videos.list({ limit: 2 })).iterPages()) {
        newest.push(...page.data.map(({ id }) => id))
        if (++pages === 3) break
      }
      assert.deepEqual(newest.slice(0, 5), made.toReversed())
      const oldest: string[] = []
      for await (const { id } of client.videos.list({ limit: 2, order: 'asc' })) oldest.push(id)
      assert.deepEqual(oldest.slice(-5), made)
      assert.equal(new Set(oldest).size, oldest.length)
      for (const id of made) await ended(client, { id })
    })

    test('case 16: remix and edit', async () => {
      const client = connect()
      const first = await ended(client, await client.videos.create({ prompt, ...small }))
      const remix = await ended(client, await client.videos.remix(first.id, { prompt: 'a big blue circle' }))
      assert.deepEqual([remix.status, remix.remixed_from_video_id], ['completed', first.id])
      assert.equal(remix.torchreel.settings?.num_inference_steps, 2)
      const file = new File([await bytesOf(await client.videos.downloadContent(first.id))], 'a.mp4')
      const strong = { ...small, num_inference_steps: 4, strength: 0.5 }
      const fromFile = await client.videos.edit({ prompt: 'a blue circle', video: file, ...strong })
      const fromId = await client.videos.edit({ prompt: 'a blue circle', video: { id: first.id }, ...strong })
      const edits = [await ended(client, fromFile), await ended(client, fromId)]
      assert.deepEqual(
        edits.map(({ status }) => status),
        ['completed', 'completed'],
      )
      const [one, other] = await Promise.all(
        edits.map(async ({ id }) => bytesOf(await client.videos.downloadContent(id))),
      )
      assert.deepEqual(one, other)
    })

    test('case 16: cancel; a cancelled video has failed for a client that knows no more', async () => {
      const client = connect()
      const running = await client.videos.create({ prompt, ...small, num_inference_steps: 200 } as never)
      const waiting = await client.videos.create({ prompt, ...small })
      for (const { id } of [waiting, running]) {
        await client.post(`/videos/${id}/cancel`)
        const video = await ended(client, { id })
        assert.deepEqual([video.status, video.error?.code], ['failed', 'cancelled'])
        assert.equal(video.torchreel.state, 'cancelled')
        await assert.rejects(client.videos.downloadContent(id), errors.NotFoundError)
      }
    })

    test('case 16: delete', async () => {
      const client = connect()
      const { id } = await ended(client, await client.videos.create({ prompt, ...small }))
      assert.deepEqual(await client.videos.delete(id), { id, deleted: true, object: 'video.deleted' })
      await assert.rejects(client.videos.retrieve(id), errors.NotFoundError)
      await assert.rejects(client.videos.delete(id), errors.NotFoundError)
    })

    test('case 16: errors by class, with code, parameter and the id of the request', async () => {
      const client = connect({ maxRetries: 0 })
      const create = (fields: object) => client.videos.create({ prompt, ...small, ...fields } as never)
      const refused = (job: Promise<unknown>, wanted: object) =>
        assert.rejects(job, (error: InstanceType<typeof errors.APIError>) => {
          assert.ok(error instanceof errors.APIError, String(error))
          const { status, code, param, type } = error
          const found = { kind: error.constructor.name, status, code, param, type }
          const told = Object.fromEntries(Object.keys(wanted).map((key) => [key, found[key as 'kind']]))
          assert.deepEqual(told, wanted)
          assert.ok(error.requestID)
          return true
        })
      const type = 'invalid_request_error'
      await refused(create({ num_inference_steps: 0 }), {
        ...{ kind: 'BadRequestError', status: 400, param: 'num_inference_steps', type },
      })
      await refused(create({ num_step: 2 }), {
        kind: 'BadRequestError',
        status: 400,
        param: 'num_step',
        type,
      })
      await assert.rejects(
        create({ num_step: 2 }),
        /there is no field num_step; did you mean .*num_inference_steps/,
      )
      await refused(create({ model: 'sora-2' }), {
        kind: 'NotFoundError',
        status: 404,
        code: 'model_not_found',
      })
      await refused(client.videos.retrieve(`video_${'0'.repeat(26)}`), { kind: 'NotFoundError', status: 404 })
      const { id } = await create({})
      const prompted = { prompt, video: { id }, seconds: '4' } as const
      await refused(client.videos.extend(prompted), { kind: 'BadRequestError', code: 'unsupported' })
      await refused(client.videos.getCharacter('char_1'), { kind: 'BadRequestError', code: 'unsupported' })
      await ended(client, { id })
    })

    test("case 15: the client's own retry after a lost answer makes no second video; two first tries make two", async () => {
      const lost: string[] = []
      const client = connect({
        fetch: async (input: string, init: RequestInit) => {
          const answer = await fetch(input, init)
          if (init.method !== 'POST' || lost.length > 0) return answer
          lost.push(((await answer.json()) as Video).id)
          throw new TypeError('fetch failed')
        },
      })
      const found = await client.videos.create({ prompt: `a circle, lost by ${name}`, ...small })
      assert.deepEqual(lost, [found.id])
      const again = await client.videos.create({ prompt: `a circle, lost by ${name}`, ...small })
      assert.notEqual(again.id, found.id)
      for (const { id } of [found, again]) await ended(client, { id })
    })
  })
}

test('case 15: a retry gets its video, also if the key may have no more', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-clients-'))
  const keys = path.join(folder, 'keys')
  const apiKey = await addKey(keys, 'ann', false)
  const limited = await startServer({ keys, limits: { unfinished: 1 } })
  try {
    const ask = (fields: object, headers: object) =>
      fetch(`${limited.url}/v1/videos`, {
        method: 'POST',
        headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ prompt, num_inference_steps: 200, ...fields }),
      })
    const idOf = async (answer: Response) => ((await answer.json()) as Video).id
    const first = await ask({}, { 'idempotency-key': 'mine' })
    const id = await idOf(first)
    assert.equal(await idOf(await ask({}, { 'idempotency-key': 'mine' })), id)
    assert.equal(await idOf(await ask({}, { 'x-stainless-retry-count': '1' })), id)
    assert.equal((await ask({ seed: 1 }, { 'idempotency-key': 'mine' })).status, 422)
    assert.equal((await ask({}, { 'idempotency-key': 'another' })).status, 429)
    assert.equal((await ask({ seed: 1 }, { 'x-stainless-retry-count': '1' })).status, 429)
    assert.equal((await ask({}, {})).status, 429)
  } finally {
    await limited.stop()
    rmSync(folder, { recursive: true })
  }
})
