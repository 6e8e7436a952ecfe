// /v1/videos over HTTP, with jobs that act.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { newId } from '#server/jobs/job.js'
import type { Video } from '#server/videos.js'
import { videoSchema } from '#server/videos.js'
import { videoOf } from '../support/acting_runner.js'
import {
  create,
  json,
  look,
  post,
  type Running,
  refusal,
  start,
  until,
  untilState,
} from '../support/acting_server.js'

let running: Running
let url = ''
before(async () => {
  running = await start()
  url = running.url
})
after(() => running.close())

const videos = () => `${url}/v1/videos`
const bytesOf = async (answer: Response) => Buffer.from(await answer.arrayBuffer())
const form = (fields: Record<string, string | Blob>) => {
  const data = new FormData()
  for (const [name, value] of Object.entries(fields)) data.append(name, value)
  return data
}
const mp4 = (size = 64) => new Blob([Buffer.concat([Buffer.from('\0\0\0\x18ftypmp42'), Buffer.alloc(size)])])

test('a video is asked for, followed and fetched; every answer has the form that is described', async () => {
  const created = await json(post(videos(), { prompt: 'a red circle', seed: 7 }))
  videoSchema.parse(created)
  assert.equal(created.object, 'video')
  assert.ok(created.created_at > Date.now() / 1000 - 60)
  const done = await untilState(url, created.id, 'completed')
  videoSchema.parse(done)
  assert.deepEqual(
    [done.status, done.progress, done.size, done.seconds, done.model, done.prompt, done.error],
    ['completed', 100, '64x64', '2', 'shapes', 'a red circle', null],
  )
  assert.equal(done.torchreel.seed, 7)
  const answer = await fetch(`${videos()}/${created.id}/content`)
  assert.equal(answer.headers.get('content-type'), 'video/mp4')
  assert.deepEqual(await bytesOf(answer), videoOf(7))
  for (const variant of ['thumbnail', 'spritesheet']) {
    const picture = await fetch(`${videos()}/${created.id}/content?variant=${variant}`)
    assert.equal(picture.headers.get('content-type'), 'image/png')
    assert.equal(await picture.text(), variant)
  }
  assert.equal((await fetch(`${videos()}/${created.id}`)).headers.get('openai-poll-after-ms'), '1000')
})

test('the seed is chosen when a job is accepted, and told', async () => {
  const [one, other] = [await create(url, 'a'), await create(url, 'a')]
  assert.ok(Number.isSafeInteger(one.torchreel.seed))
  assert.notEqual(one.torchreel.seed, other.torchreel.seed)
  await untilState(url, one.id, 'completed')
  assert.deepEqual(await bytesOf(await fetch(`${videos()}/${one.id}/content`)), videoOf(one.torchreel.seed))
})

test('a form and JSON with the names of OpenAI and vLLM-Omni give the same settings', async () => {
  const fields = {
    ...{ prompt: 'a', size: '128x64', num_inference_steps: '5', guidance_scale: '2.5', seed: '3', fps: '4' },
    ...{ seconds: '3', negative_prompt: 'b', vae_tiling: 'true', user: 'me' },
  }
  const ofForm = await json(fetch(videos(), { method: 'POST', body: form(fields) }))
  const ofJson = await json(
    post(videos(), {
      ...{ prompt: 'a', width: 128, height: 64, steps: 5, guidance_scale: 2.5, seed: 3, num_frames: 12 },
      ...{ extra_params: { fps: 4, negative_prompt: 'b' }, vae_tiling: true },
    }),
  )
  const nested = await json(
    fetch(videos(), {
      method: 'POST',
      body: form({
        prompt: 'a',
        'extra_params[seed]': '3',
        extra_params: '{"num_frames": 12}',
        window: '{"frames": 8}',
      }),
    }),
  )
  assert.deepEqual(ofForm.torchreel.settings, ofJson.torchreel.settings)
  assert.deepEqual(ofForm.torchreel.settings, {
    ...{ width: 128, height: 64, num_frames: 12, fps: 4, num_inference_steps: 5, guidance_scale: 2.5 },
    ...{ negative_prompt: 'b', seed: 3, vae_tiling: true },
  })
  assert.deepEqual([ofForm.size, ofForm.seconds], ['128x64', '3'])
  assert.deepEqual(nested.torchreel.settings, { num_frames: 12, seed: 3, window: { frames: 8 } })
})

test('[malformed-requests] mistakes are told in the form of OpenAI, with the name on the wire', async () => {
  const cases: [object, number, string, string | null][] = [
    [{ prompt: 'a', num_step: 3 }, 400, 'unknown_field', 'num_step'],
    [{ prompt: 'a', num_frames: 'many' }, 400, 'err_invalid_argument', 'num_frames'],
    [{ prompt: 'a', num_frames: 2.5 }, 400, 'err_invalid_argument', 'num_frames'],
    [{ prompt: 'a', width: 65 }, 400, 'err_invalid_argument', 'width'],
    [{ prompt: 'a', size: '64' }, 400, 'err_invalid_argument', 'size'],
    [{ prompt: 'a', seconds: -1 }, 400, 'err_invalid_argument', 'seconds'],
    [{ prompt: 'a', scheduler: 'Fast' }, 400, 'err_invalid_argument', 'scheduler'],
    [{ prompt: 'a', strength: 0.5 }, 400, 'err_invalid_argument', 'strength'],
    [{ prompt: 'a', free_u: { s1: 1, s2: 1, b1: 1 } }, 400, 'err_invalid_argument', 'free_u.b2'],
    [{ prompt: 'a'.repeat(20_001) }, 400, 'err_limit_exceeded', 'prompt'],
    [{ prompt: 7 }, 400, 'err_invalid_argument', 'prompt'],
    [{ prompt: ' ' }, 400, 'err_invalid_argument', 'prompt'],
    [{}, 400, 'err_invalid_argument', 'prompt'],
    [{ prompt: 'a', generate_sound: true }, 400, 'unsupported', 'generate_sound'],
    [{ prompt: 'a', n: 2 }, 400, 'unsupported', 'n'],
    [{ prompt: 'a', model: 'sora-2' }, 404, 'model_not_found', null],
  ]
  for (const [body, ...expected] of cases)
    assert.deepEqual(await refusal(post(videos(), body)), expected, JSON.stringify(body))
  const { error } = await json<{ error: { message: string } }>(post(videos(), { prompt: 'a', num_step: 3 }))
  assert.equal(error.message, 'there is no field num_step; did you mean num_inference_steps?')
  const words = async (body: object) =>
    (await json<{ error: { message: string } }>(post(videos(), body))).error.message
  assert.match(await words({ prompt: 'a', negativePrompt: 'b' }), /did you mean negative_prompt\?/)
  assert.match(await words({ prompt: 'a', width: 65 }), /^width must be a multiple of 8/)
  const headers = { 'content-type': 'text/plain' }
  assert.deepEqual(await refusal(fetch(videos(), { method: 'POST', body: 'a', headers })), [
    415,
    'unsupported_media_type',
    null,
  ])
  assert.deepEqual(
    await refusal(
      fetch(videos(), { method: 'POST', body: '[1]', headers: { 'content-type': 'application/json' } }),
    ),
    [400, 'invalid_json', null],
  )
  assert.deepEqual(await refusal(fetch(`${url}/v2`)), [404, 'not_found', null])
  for (const path of ['extensions', 'characters'])
    assert.deepEqual(await refusal(post(`${videos()}/${path}`, {})), [400, 'unsupported', null])
})

test('the list comes in pages, in both orders', async () => {
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push((await create(url, `page ${i}`)).id)
  const page = (query: string) =>
    json<{ data: Video[]; first_id: string; last_id: string; has_more: boolean }>(
      fetch(`${videos()}?${query}`),
    )
  const seen: string[] = []
  for (let after = ''; ; ) {
    const { data, last_id, has_more } = await page(`limit=2${after}`)
    seen.push(...data.map(({ id }) => id))
    if (!has_more) break
    after = `&after=${last_id}`
  }
  assert.deepEqual(seen.slice(0, 5), ids.toReversed())
  assert.deepEqual(seen, [...seen].sort().reverse())
  const ascending = await page('order=asc&limit=100')
  assert.deepEqual(
    ascending.data.map(({ id }) => id),
    seen.toReversed(),
  )
  assert.equal(ascending.first_id, seen.at(-1))
  for (const query of ['limit=0', 'limit=101', 'order=up', 'after=1'])
    assert.equal((await fetch(`${videos()}?${query}`)).status, 400)
})

test('a list gives none twice and misses none that was there, while jobs come and go', async () => {
  const before: string[] = []
  for (let i = 0; i < 12; i++) before.push((await create(url, `there ${i}`)).id)
  const seen: string[] = []
  for (let after: string | undefined; ; ) {
    const query = after === undefined ? '' : `&after=${after}`
    const { data, last_id, has_more } = await json<{ data: Video[]; last_id: string; has_more: boolean }>(
      fetch(`${videos()}?limit=3${query}`),
    )
    seen.push(...data.map(({ id }) => id))
    await create(url, 'comes')
    if (seen.length === 6) await fetch(`${videos()}/${seen[5]}`, { method: 'DELETE' })
    if (!has_more) break
    after = last_id
  }
  assert.equal(new Set(seen).size, seen.length)
  for (const id of before) assert.ok(seen.includes(id))
})

test('case 21: ranges, conditions and HEAD', async () => {
  const { id } = await create(url, 'a', { seed: 9 })
  await untilState(url, id, 'completed')
  const address = `${videos()}/${id}/content`
  const whole = videoOf(9)
  const size = whole.length
  const get = async (headers: Record<string, string>, method = 'GET') => {
    const answer = await fetch(address, { headers, method })
    return {
      status: answer.status,
      range: answer.headers.get('content-range'),
      bytes: await bytesOf(answer),
      answer,
    }
  }
  const table: [string, number, string | null, Buffer][] = [
    ['bytes=0-1', 206, `bytes 0-1/${size}`, whole.subarray(0, 2)],
    ['bytes=0-0', 206, `bytes 0-0/${size}`, whole.subarray(0, 1)],
    ['bytes=-1', 206, `bytes ${size - 1}-${size - 1}/${size}`, whole.subarray(-1)],
    [`bytes=-${size + 5}`, 206, `bytes 0-${size - 1}/${size}`, whole],
    ['bytes=100-', 206, `bytes 100-${size - 1}/${size}`, whole.subarray(100)],
    [`bytes=100-${size + 5}`, 206, `bytes 100-${size - 1}/${size}`, whole.subarray(100)],
    [`bytes=${size - 1}-`, 206, `bytes ${size - 1}-${size - 1}/${size}`, whole.subarray(-1)],
    ['bytes=0-1,5-6', 200, null, whole],
    ['bytes=x', 200, null, whole],
  ]
  for (const [range, ...expected] of table) {
    const { status, range: got, bytes } = await get({ range })
    assert.deepEqual([status, got, bytes], expected, range)
  }
  for (const range of [`bytes=${size}-`, 'bytes=5-2', 'bytes=-0']) {
    const { status, range: got } = await get({ range })
    assert.deepEqual([status, got], [416, `bytes */${size}`], range)
  }
  const { answer } = await get({})
  const etag = answer.headers.get('etag') as string
  assert.equal(answer.headers.get('accept-ranges'), 'bytes')
  assert.equal((await get({ range: 'bytes=0-1', 'if-range': etag })).status, 206)
  assert.equal((await get({ range: 'bytes=0-1', 'if-range': '"old"' })).status, 200)
  assert.equal((await get({ 'if-none-match': etag })).status, 304)
  const head = await get({ range: 'bytes=0-9' }, 'HEAD')
  assert.deepEqual(
    [head.status, head.answer.headers.get('content-length'), head.bytes.length],
    [206, '10', 0],
  )
  assert.equal((await get({}, 'HEAD')).answer.headers.get('content-length'), String(size))
})

test('case 13: a download that streams while its video is deleted ends whole', async () => {
  const { id } = await create(url, 'a', { seed: 4 })
  await untilState(url, id, 'completed')
  const answer = await fetch(`${videos()}/${id}/content`)
  const deleted = await json<object>(fetch(`${videos()}/${id}`, { method: 'DELETE' }))
  assert.deepEqual(deleted, { id, object: 'video.deleted', deleted: true })
  assert.deepEqual(await bytesOf(answer), videoOf(4))
  assert.equal((await fetch(`${videos()}/${id}`)).status, 404)
  assert.equal((await fetch(`${videos()}/${id}`, { method: 'DELETE' })).status, 404)
})

test('content that is not there yet: 404, and the preview is there while it runs', async () => {
  const { id } = await create(url, 'steps 100 ms 20')
  assert.deepEqual(await refusal(fetch(`${videos()}/${id}/content`)), [404, 'video_not_ready', null])
  const preview = await until(async () => (await look(url, id)).torchreel.preview)
  assert.match(await (await fetch(url + preview)).text(), /^preview/)
  assert.deepEqual(await refusal(fetch(`${videos()}/${id}/content?variant=audio`)), [
    400,
    'err_invalid_argument',
    'variant',
  ])
  await fetch(`${videos()}/${id}`, { method: 'DELETE' })
})

test('case 14: one key, two requests at once: one job, equal answers; with another body 422', async () => {
  const ask = (body: object) => post(videos(), body, { 'idempotency-key': 'click-1' })
  const [one, other] = await Promise.all([json(ask({ prompt: 'a' })), json(ask({ prompt: 'a' }))])
  assert.equal(one.id, other.id)
  assert.equal(one.torchreel.seed, other.torchreel.seed)
  assert.deepEqual(await refusal(ask({ prompt: 'b' })), [422, 'idempotency_key_reuse', null])
})

test('case 15: the retry of a client after a lost answer is the same job; two first tries are two', async () => {
  const ask = (retry: string) =>
    json(post(videos(), { prompt: 'lost answer' }, { 'x-stainless-retry-count': retry }))
  const first = await ask('0')
  assert.equal((await ask('1')).id, first.id)
  assert.notEqual((await ask('0')).id, first.id)
})

test('Prefer: wait holds the answer until the end, or for so long', async () => {
  const done = await json(post(videos(), { prompt: 'steps 2 ms 20' }, { prefer: 'wait=20' }))
  assert.equal(done.status, 'completed')
  const not = await json(post(videos(), { prompt: 'steps 200 ms 20' }, { prefer: 'respond-async, wait=1' }))
  assert.equal(not.status, 'in_progress')
  await fetch(`${videos()}/${not.id}/cancel`, { method: 'POST' })
})

test('[clients-leave] sync answers with the video; a failure is an error; hanging up cancels', async () => {
  const answer = await post(`${videos()}/sync`, { prompt: 'a', seed: 12 })
  assert.deepEqual(
    [answer.headers.get('content-type'), answer.headers.get('x-torchreel-seed')],
    ['video/mp4', '12'],
  )
  assert.deepEqual(await bytesOf(answer), videoOf(12))
  const failed = await post(`${videos()}/sync`, { prompt: 'steps 2 fail 1' })
  assert.equal(failed.headers.get('x-should-retry'), 'false')
  assert.deepEqual(await refusal(failed), [500, 'err_numeric', null])
  const hangUp = new AbortController()
  const gone = fetch(`${videos()}/sync`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'hang up steps 500 ms 20' }),
    signal: hangUp.signal,
  })
  const find = () => json<{ data: Video[] }>(fetch(`${videos()}?limit=1`)).then(({ data }) => data[0])
  const video = await until(async () => [await find()].find((one) => one?.prompt?.startsWith('hang up')))
  hangUp.abort()
  await assert.rejects(gone)
  assert.equal((await untilState(url, video.id, 'cancelled')).error?.code, 'cancelled')
})

test('remix keeps the settings, with another prompt and seed; with strength it starts from the video', async () => {
  const original = await create(url, 'a', { seed: 1, num_inference_steps: 5, size: '128x64' })
  await untilState(url, original.id, 'completed')
  const remix = await json(post(`${videos()}/${original.id}/remix`, { prompt: 'b' }))
  assert.equal(remix.remixed_from_video_id, original.id)
  assert.deepEqual([remix.prompt, remix.size], ['b', '128x64'])
  const { seed, ...kept } = remix.torchreel.settings
  assert.deepEqual(kept, { width: 128, height: 64, num_inference_steps: 5 })
  assert.notEqual(seed, 1)
  const from = await json(post(`${videos()}/${original.id}/remix`, { prompt: 'c', strength: 0.5 }))
  assert.equal(from.torchreel.settings.strength, 0.5)
  assert.equal((await untilState(url, from.id, 'completed')).remixed_from_video_id, original.id)
  assert.deepEqual(await refusal(post(`${videos()}/${newId()}/remix`, { prompt: 'b' })), [
    404,
    'video_not_found',
    null,
  ])
})

test('edits start from an uploaded video, or from one of the gallery', async () => {
  const source = await create(url, 'a')
  await untilState(url, source.id, 'completed')
  const edits = `${videos()}/edits`
  const ofFile = await json(
    fetch(edits, { method: 'POST', body: form({ prompt: 'b', video: mp4(), strength: '0.5' }) }),
  )
  const ofId = await json(
    fetch(edits, { method: 'POST', body: form({ prompt: 'b', 'video[id]': source.id }) }),
  )
  const ofJson = await json(post(edits, { prompt: 'b', video: { id: source.id } }))
  for (const { id } of [ofFile, ofId, ofJson]) await untilState(url, id, 'completed')
  assert.deepEqual(await refusal(post(edits, { prompt: 'b' })), [400, 'err_invalid_argument', 'video'])
  assert.deepEqual(await refusal(post(edits, { prompt: 'b', video: { id: newId() } })), [
    404,
    'video_not_found',
    null,
  ])
})

test('models, capabilities and the description come from the same table', async () => {
  const models = await json<{ data: { id: string }[] }>(fetch(`${url}/v1/models`))
  assert.deepEqual(
    models.data.map(({ id }) => id),
    ['shapes'],
  )
  assert.equal((await json<{ id: string }>(fetch(`${url}/v1/models/shapes`))).id, 'shapes')
  interface Capabilities {
    models: { id: string; ready: boolean; fields: { name: string; default?: unknown; schema: object }[] }[]
  }
  const { models: able } = await json<Capabilities>(fetch(`${url}/v1/capabilities`))
  const fields = able[0]?.fields ?? []
  const fieldOf = (name: string) => fields.find((one) => one.name === name)
  assert.deepEqual(
    [fieldOf('num_frames')?.default, fieldOf('width')?.default, fieldOf('num_inference_steps')?.default],
    [16, 64, 25],
  )
  assert.deepEqual(fieldOf('width')?.schema, { type: 'integer', minimum: 8, maximum: 16384, multipleOf: 8 })
  interface Api {
    openapi: string
    paths: Record<
      string,
      Record<string, { requestBody: { content: Record<string, { schema: { properties: object } }> } }>
    >
    components: { schemas: Record<string, object> }
  }
  const api = await json<Api>(fetch(`${url}/openapi.json`))
  assert.equal(api.openapi, '3.1.0')
  const described =
    api.paths['/v1/videos']?.post?.requestBody.content['application/json']?.schema.properties ?? {}
  for (const { name } of fields) assert.ok(Object.hasOwn(described, name), name)
  assert.ok(Object.hasOwn(api.components.schemas, 'Video'))
})

test('health, readiness and metrics', async () => {
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
  assert.deepEqual(await json<object>(fetch(`${url}/readyz`)), { status: 'ready' })
  const { id } = await create(url, 'a secret prompt')
  await untilState(url, id, 'completed')
  await wait(50)
  const text = await (await fetch(`${url}/metrics`)).text()
  for (const line of [
    /^torchreel_jobs\{state="queued"\} \d/m,
    /^torchreel_jobs_ended_total\{result="completed"\} [1-9]/m,
    /^torchreel_job_wait_seconds_count [1-9]/m,
    /^torchreel_worker_up\{device="cpu"\} 1/m,
    /^torchreel_http_requests_total\{route="GET \/v1\/videos\/:id",status="200"\} [1-9]/m,
    /^torchreel_store_bytes [1-9]/m,
    /^torchreel_event_loop_delay_seconds\{quantile="0.99"\}/m,
  ])
    assert.match(text, line)
  assert.doesNotMatch(text, /secret|video_0/)
})
