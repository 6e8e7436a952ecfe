// The threats of a server, by their numbers. Uploads are in uploads.test.ts, those that need the model in run_job.test.ts.
import assert from 'node:assert/strict'
import { readFileSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { pino } from 'pino'
import { addKey } from '#server/http/keys.js'
import { newId } from '#server/jobs/job.js'
import type { ServerOptions } from '#server/options.js'
import { createServer } from '#server/server.js'
import type { Video } from '#server/videos.js'
import {
  create,
  json,
  newFolder,
  post,
  type Running,
  refusal,
  silent,
  start,
  untilState,
} from '../support/acting_server.js'

let open: Running
let keyed: Running
let keyFile: string
const keys = { ann: '', bob: '', admin: '' }
const logged: string[] = []
before(async () => {
  open = await start({ origins: ['https://studio.example'], hostNames: ['video.lan'] })
  const folder = newFolder()
  keyFile = path.join(folder, 'keys')
  keys.ann = await addKey(keyFile, 'ann', false)
  keys.bob = await addKey(keyFile, 'bob', false)
  keys.admin = await addKey(keyFile, 'root', true)
  const logger = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) })
  keyed = await start({ keys: keyFile, logger, limits: { unfinished: 3, perMinute: 1000, streamsOfKey: 2 } })
})
after(async () => {
  await open.close()
  await keyed.close()
  rmSync(path.dirname(keyFile), { recursive: true })
})

const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
const list = (url: string, headers: Record<string, string> = {}) => fetch(`${url}/v1/videos`, { headers })

/** A request with headers that `fetch` does not let through. */
function raw(
  url: string,
  headers: Record<string, string>,
  method = 'GET',
  route = '/healthz',
): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = http.request(url + route, { headers, method }, (answer) => {
      answer.resume()
      resolve(answer)
    })
    request.on('error', reject)
    request.end()
  })
}

test('[hosts] threat 1: without keys, a server that other machines reach is refused', async () => {
  const make = (options: ServerOptions) =>
    createServer({ data: newFolder(), logger: silent, workers: [], port: 0, ...options })
  for (const host of ['0.0.0.0', '::', '192.168.1.5']) await assert.rejects(make({ host }), /--new-key NAME/)
  for (const options of [{ noLogin: true }, { keys: keyFile }]) {
    const server = await make({ host: '0.0.0.0', ...options })
    await server.close()
    rmSync(server.data, { recursive: true })
  }
  assert.ok(open.url.startsWith('http://127.0.0.1:'))
})

test('threat 2: a page of another origin cannot make videos, cancel or delete; links to the server work', async () => {
  const { id } = await create(open.url, 'a')
  const body = JSON.stringify({ prompt: 'a' })
  const refused: Record<string, string>[] = [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: open.url.replace('http:', 'https:') },
    { origin: 'http://127.0.0.1:1' },
    { 'sec-fetch-site': 'cross-site' },
  ]
  for (const headers of refused) {
    const json = { ...headers, 'content-type': 'application/json' }
    assert.equal((await raw(open.url, json, 'POST', '/v1/videos')).statusCode, 403, JSON.stringify(headers))
    assert.equal((await raw(open.url, headers, 'DELETE', `/v1/videos/${id}`)).statusCode, 403)
    assert.equal((await raw(open.url, headers, 'POST', `/v1/videos/${id}/cancel`)).statusCode, 403)
    assert.equal((await raw(open.url, headers, 'POST', '/session')).statusCode, 403)
  }
  for (const headers of [
    { origin: open.url },
    { origin: 'https://studio.example' },
    { 'sec-fetch-site': 'same-origin' },
    {},
  ])
    assert.equal(
      (
        await fetch(`${open.url}/v1/videos`, {
          method: 'POST',
          body,
          headers: { ...headers, 'content-type': 'application/json' },
        })
      ).status,
      200,
    )
  assert.equal((await raw(open.url, { 'sec-fetch-site': 'cross-site' }, 'GET', '/')).statusCode, 200)
})

test('[hosts] threat 3: another name in Host is refused', async () => {
  const { port } = new URL(open.url)
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '169.254.169.254',
  ])
    assert.equal((await raw(open.url, { host })).statusCode, 403, host)
  for (const host of [
    'localhost',
    `localhost:${port}`,
    '127.0.0.1',
    `[::1]:${port}`,
    'video.lan',
    'VIDEO.lan:80',
  ])
    assert.equal((await raw(open.url, { host })).statusCode, 200, host)
})

test('threat 4: other origins are let in by exact name, never reflected, never with credentials', async () => {
  const preflight = (server: Running, origin: string) =>
    fetch(`${server.url}/v1/videos`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST' },
    })
  const allowed = await preflight(open, 'https://studio.example')
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://studio.example')
  assert.match(allowed.headers.get('access-control-allow-headers') ?? '', /authorization/)
  for (const origin of [
    'https://evil.example',
    'https://studio.example.evil.example',
    'http://studio.example',
    'null',
  ]) {
    for (const answer of [await preflight(open, origin), await list(open.url, { origin })])
      assert.equal(answer.headers.get('access-control-allow-origin'), null, origin)
  }
  assert.equal(
    (await list(open.url, { origin: 'https://studio.example' })).headers.get(
      'access-control-allow-credentials',
    ),
    null,
  )
  // A preflight has no key, and must not be refused for that.
  assert.equal((await preflight(keyed, 'https://studio.example')).status, 204)
})

test('threat 5: behind a proxy the origin is that of --public-url; X-Forwarded-* counts only if it is trusted', async () => {
  const ask = (server: Running, headers: Record<string, string>) =>
    raw(server.url, { 'content-type': 'application/json', ...headers }, 'POST', '/session')
  const forwarded = {
    origin: 'https://videos.example',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'videos.example',
  }
  assert.equal((await ask(open, forwarded)).statusCode, 403)
  for (const options of [{ publicUrl: 'https://videos.example' }, { trustProxy: true }]) {
    const server = await start(options)
    assert.notEqual((await ask(server, forwarded)).statusCode, 403)
    assert.equal((await ask(server, { origin: 'https://evil.example' })).statusCode, 403)
    await server.close()
  }
})

test('threat 6: the page exchanges its key for a cookie that scripts cannot read', async () => {
  const { url } = keyed
  assert.deepEqual(await refusal(post(`${url}/session`, { key: 'wrong' })), [401, 'invalid_api_key', null])
  const answer = await post(`${url}/session`, { key: keys.ann })
  const [set = ''] = answer.headers.getSetCookie()
  assert.match(set, /HttpOnly/)
  assert.match(set, /SameSite=Strict/)
  assert.ok(!set.includes(keys.ann))
  const cookie = set.split(';')[0] as string
  assert.equal((await list(url, { cookie })).status, 200)
  for (const forged of [
    cookie.slice(0, -2),
    cookie.replace(/=[^.]+/, `=${Buffer.from('root').toString('base64url')}`),
    cookie.replace(/\.\d+\./, '.9999999999.'),
  ])
    assert.equal((await list(url, { cookie: forged })).status, 401)
  assert.equal((await list(url)).status, 401)
  assert.equal((await fetch(`${url}/v1/videos?key=${keys.ann}`)).status, 401)
  const secure = await start({ keys: keyFile, publicUrl: 'https://videos.example' })
  const [over = ''] = (await post(`${secure.url}/session`, { key: keys.ann })).headers.getSetCookie()
  assert.match(over, /Secure/)
  await secure.close()
})

test('threat 6: a session has the rights of its own key, also beside another key of the same name', async () => {
  const folder = newFolder()
  const file = path.join(folder, 'keys')
  const admin = await addKey(file, 'ann', true)
  const plain = await addKey(file, 'ann', false)
  const running = await start({ keys: file })
  try {
    for (const [key, status] of [
      [admin, 200],
      [plain, 403],
    ] as const) {
      const [set = ''] = (await post(`${running.url}/session`, { key })).headers.getSetCookie()
      const cookie = set.split(';')[0] as string
      assert.equal((await fetch(`${running.url}/metrics`, { headers: bearer(key) })).status, status)
      assert.equal((await fetch(`${running.url}/metrics`, { headers: { cookie } })).status, status)
    }
  } finally {
    await running.close()
    rmSync(folder, { recursive: true })
  }
})

test('threat 7: the file of keys has sha256 only, and nothing but the whole key is one', async () => {
  const text = readFileSync(keyFile, 'utf8')
  for (const key of Object.values(keys)) assert.ok(!text.includes(key))
  assert.equal(statSync(keyFile).mode & 0o777, 0o600)
  assert.equal((await list(keyed.url, bearer(keys.ann))).status, 200)
  const [, hash = ''] = /sha256:(\w+)/.exec(text) ?? []
  for (const wrong of [
    keys.ann.slice(0, -1),
    `${keys.ann}a`,
    keys.ann.toUpperCase(),
    hash,
    `sha256:${hash}`,
    '',
  ])
    assert.equal((await list(keyed.url, bearer(wrong))).status, 401, wrong)
  assert.equal((await list(keyed.url, { authorization: `Basic ${keys.ann}` })).status, 401)
})

test('a server that was refused for its keys or its address leaves its folder to the next one', async () => {
  const data = newFolder()
  const file = path.join(data, 'keys')
  writeFileSync(file, 'no key\n')
  await assert.rejects(createServer({ data, keys: file, workers: [], logger: silent }), /line 1 is not a key/)
  await assert.rejects(createServer({ data, publicUrl: 'nowhere', workers: [], logger: silent }), /URL/)
  await (await createServer({ data, workers: [], logger: silent })).close()
  rmSync(data, { recursive: true })
})

test('[request-paths] threat 8: no id and no name leads out of the folder of the jobs', async () => {
  const { id } = await create(open.url, 'a')
  await untilState(open.url, id, 'completed')
  for (const wrong of [
    '..%2f..%2fserver.lock',
    `${id}%2f..%2f..`,
    '%2e%2e',
    `${id}%00`,
    id.toUpperCase(),
    'video_',
  ])
    assert.equal((await fetch(`${open.url}/v1/videos/${wrong}/content`)).status, 404, wrong)
  for (const variant of ['job.json', '..%2fjob.json', '__proto__', 'constructor', 'input'])
    assert.equal((await fetch(`${open.url}/v1/videos/${id}/content?variant=${variant}`)).status, 400, variant)
  for (const page of ['/..%2fserver.js', '/assets/..%2f..%2fserver.js', '/%2e%2e/package.json'])
    assert.equal((await raw(open.url, {}, 'GET', page)).statusCode, 404, page)
  const video = path.join(open.folder, 'jobs', id, 'video.mp4')
  unlinkSync(video)
  symlinkSync('/etc/passwd', video)
  assert.equal((await fetch(`${open.url}/v1/videos/${id}/content`)).status, 404)
})

test('[request-paths] threat 9: no field takes a path', async () => {
  const file = 'file:///etc/passwd'
  const bodies = [
    { output: '/tmp/a.mp4' },
    { ffmpeg: '/bin/sh' },
    { libtorch: '/tmp' },
    { input_reference: file },
    { input_reference: '/etc/passwd' },
    { video: '/etc/passwd' },
    { lora: '/etc/passwd' },
    { lora: [{ name: 'a', path: '/etc/passwd' }, { name: '../a' }] },
    { scheduler: '/etc/passwd' },
    { extra_params: { output: '/tmp/a.mp4' } },
  ]
  for (const body of bodies)
    assert.equal(
      (await post(`${open.url}/v1/videos`, { prompt: 'a', ...body })).status,
      400,
      JSON.stringify(body),
    )
  assert.equal((await post(`${open.url}/v1/videos`, { prompt: 'a', model: '/etc' })).status, 404)
  assert.equal((await post(`${open.url}/v1/videos/edits`, { prompt: 'a', video: '/etc/passwd' })).status, 400)
})

test('[request-paths] threat 10: no address is fetched', async () => {
  let asked = 0
  const other = http.createServer((_request, answer) => {
    asked++
    answer.end()
  })
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${(other.address() as { port: number }).port}/a.mp4`
  const bodies = [
    { input_reference: { image_url: address } },
    { input_reference: address },
    { image_reference: address },
    { video_reference: JSON.stringify({ video_url: address }) },
    { image_url: address },
  ]
  for (const body of bodies) {
    const [status, code] = await refusal(post(`${open.url}/v1/videos`, { prompt: 'a', ...body }))
    assert.deepEqual([status, code], [400, 'unsupported'], JSON.stringify(body))
  }
  const form = new FormData()
  form.append('prompt', 'a')
  form.append('input_reference[image_url]', address)
  assert.deepEqual(
    (await refusal(fetch(`${open.url}/v1/videos`, { method: 'POST', body: form }))).slice(0, 2),
    [400, 'unsupported'],
  )
  await wait(50)
  assert.equal(asked, 0)
  other.close()
})

test('threat 11: a request cannot name an address to be called at the end', async () => {
  for (const name of ['webhook', 'webhook_url', 'webhookUrl', 'callback_url'])
    assert.equal(
      (await post(`${open.url}/v1/videos`, { prompt: 'a', [name]: 'http://169.254.169.254/' })).status,
      400,
      name,
    )
})

test('threat 15: what costs too much is refused before anything runs, and of each key only so much is taken', async () => {
  const cost = (body: object) => refusal(post(`${open.url}/v1/videos`, { prompt: 'a', ...body }))
  assert.deepEqual(await cost({ num_frames: 4096, width: 512, height: 512 }), [
    400,
    'err_limit_exceeded',
    'num_frames',
  ])
  assert.deepEqual(await cost({ num_inference_steps: 201 }), [
    400,
    'err_limit_exceeded',
    'num_inference_steps',
  ])
  const ids: string[] = []
  const ask = (key: string) => post(`${keyed.url}/v1/videos`, { prompt: 'steps 900 ms 20' }, bearer(key))
  for (let i = 0; i < 3; i++) ids.push((await json(ask(keys.ann))).id)
  const over = await ask(keys.ann)
  assert.ok(Number(over.headers.get('retry-after-ms')) > 0)
  assert.deepEqual(await refusal(over), [429, 'too_many_unfinished', null])
  ids.push((await json(ask(keys.bob))).id)
  for (const id of ids)
    await fetch(`${keyed.url}/v1/videos/${id}`, { method: 'DELETE', headers: bearer(keys.admin) })

  const limited = await start({ keys: keyFile, limits: { perMinute: 2 } })
  const create = () => post(`${limited.url}/v1/videos`, { prompt: 'a' }, bearer(keys.ann))
  assert.deepEqual([(await create()).status, (await create()).status], [200, 200])
  assert.deepEqual(await refusal(create()), [429, 'rate_limit_exceeded', null])
  await limited.close()

  const streams = await Promise.all(
    [1, 2].map(() => fetch(`${keyed.url}/v1/events`, { headers: bearer(keys.ann) })),
  )
  assert.deepEqual(await refusal(fetch(`${keyed.url}/v1/events`, { headers: bearer(keys.ann) })), [
    429,
    'too_many_open',
    null,
  ])
  for (const { body } of streams) await body?.cancel()
})

test('threat 16: browsers are told to run and show nothing but what this server serves', async () => {
  for (const page of ['/', '/v1/videos', '/no/such/page']) {
    const { headers } = await fetch(open.url + page)
    const policy = headers.get('content-security-policy') ?? ''
    for (const rule of [
      "default-src 'none'",
      "script-src 'self'",
      "frame-ancestors 'none'",
      "base-uri 'none'",
      "form-action 'self'",
    ])
      assert.ok(policy.includes(rule), `${page}: ${rule}`)
    assert.doesNotMatch(policy, /unsafe|data:/)
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.equal(headers.get('referrer-policy'), 'no-referrer')
    assert.equal(headers.get('cross-origin-resource-policy'), 'same-origin')
  }
  const answer = await post(`${open.url}/v1/videos`, { prompt: '<img src=x onerror=alert(1)>' })
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
})

test("threat 17: a prompt puts nothing into a download's header", async () => {
  const { id } = await create(open.url, 'a "red"\r\nset-cookie: a=b; ../../etc/Größe 🎈')
  await untilState(open.url, id, 'completed')
  const { headers } = await fetch(`${open.url}/v1/videos/${id}/content?download`)
  assert.match(headers.get('content-disposition') ?? '', /^attachment; filename="[a-z0-9-]+\.mp4"$/)
  assert.deepEqual(headers.getSetCookie(), [])
})

test('[malformed-requests] threat 18: no field reaches a prototype', async () => {
  const send = (text: string) =>
    fetch(`${open.url}/v1/videos`, {
      method: 'POST',
      body: text,
      headers: { 'content-type': 'application/json' },
    })
  for (const text of [
    '{"prompt":"a","__proto__":{"num_frames":1}}',
    '{"prompt":"a","extra_params":{"__proto__":{"steps":1}}}',
    '{"prompt":"a","constructor":{"prototype":{"steps":1}}}',
    '{"prompt":"a","vae_tiling":{"__proto__":{"overlap":0.1}}}',
    '{"prompt":"a","toString":1}',
  ])
    assert.equal((await send(text)).status, 400, text)
  for (const name of [
    'extra_params[__proto__]',
    '__proto__',
    '__proto__[steps]',
    'extra_params[constructor]',
  ]) {
    const form = new FormData()
    form.append('prompt', 'a')
    form.append(name, '1')
    assert.equal((await fetch(`${open.url}/v1/videos`, { method: 'POST', body: form })).status, 400, name)
  }
  assert.equal(({} as { steps?: number }).steps, undefined)
})

test("threat 19: another's video does not exist, whoever guesses its id", async () => {
  const { url } = keyed
  const { id } = await json(post(`${url}/v1/videos`, { prompt: 'mine' }, bearer(keys.ann)))
  const ask = (method: string, route: string, key: string) =>
    fetch(`${url}/v1/videos/${id}${route}`, {
      method,
      headers: { ...bearer(key), 'content-type': 'application/json' },
      ...(method === 'POST' && { body: '{"prompt":"b"}' }),
    })
  for (const [method, route] of [
    ['GET', ''],
    ['GET', '/content'],
    ['GET', '/events'],
    ['POST', '/cancel'],
    ['POST', '/remix'],
    ['DELETE', ''],
  ] as const) {
    const other = await ask(method, route, keys.bob)
    assert.equal(other.status, 404, method + route)
    const unknown = await fetch(`${url}/v1/videos/${newId()}${route}`, { method, headers: bearer(keys.bob) })
    assert.equal(unknown.status, 404)
  }
  const listOf = (key: string) =>
    json<{ data: Video[] }>(list(url, bearer(key))).then(({ data }) => data.map((video) => video.id))
  assert.ok(!(await listOf(keys.bob)).includes(id))
  assert.ok((await listOf(keys.ann)).includes(id))
  assert.ok((await listOf(keys.admin)).includes(id))
  assert.equal((await ask('DELETE', '', keys.ann)).status, 200)
  assert.equal(new Set(Array.from({ length: 1000 }, () => newId().slice(-16))).size, 1000)
  assert.equal((await fetch(`${url}/metrics`, { headers: bearer(keys.ann) })).status, 403)
})

test('[secrets-in-answers] threat 21: logs and answers have no prompts, no keys and no passwords', async () => {
  const secret = 'a very secret prompt'
  await post(
    `${keyed.url}/v1/videos?hint=${encodeURIComponent(secret)}`,
    { prompt: secret },
    bearer(keys.ann),
  )
  await post(`${keyed.url}/v1/videos`, { prompt: secret, num_step: 1 }, bearer(keys.ann))
  await post(`${keyed.url}/session`, { key: keys.ann })
  const text = logged.join('')
  assert.match(text, /"msg":"request"/)
  assert.match(text, /"msg":"job"/)
  assert.doesNotMatch(text, /very secret/)
  for (const key of Object.values(keys)) assert.ok(!text.includes(key))
  const broken = {
    ...open.server.files,
    ready: () => Promise.reject(new Error('redis://user:hunter2@db:6379 is away')),
  }
  const server = await createServer({
    data: newFolder(),
    logger: silent,
    workers: [],
    queue: { jobs: open.server.jobs, files: broken, place: { kind: 'folder', folder: newFolder() } },
  })
  const answer = await server.fetch(new Request('http://localhost/readyz'))
  assert.equal(answer.status, 503)
  assert.doesNotMatch(await answer.text(), /hunter2/)
})

test('[request-paths] threat 22: a request names LoRAs of the folder, nothing else', async () => {
  for (const lora of [
    '../evil',
    'a/b',
    '.hidden',
    'a:b',
    'a:1000',
    'a:',
    'a:1:2',
    [{ name: 'a', scale: '' }],
    'name.safetensors/../x',
    [{ path: '/x' }],
  ])
    assert.deepEqual(
      (await refusal(post(`${open.url}/v1/videos`, { prompt: 'a', lora }))).slice(0, 2),
      [400, 'err_invalid_argument'],
      JSON.stringify(lora),
    )
  const { torchreel } = await json(post(`${open.url}/v1/videos`, { prompt: 'a', lora: 'watercolour:0.5' }))
  assert.deepEqual(torchreel.settings.lora, [{ name: 'watercolour', scale: 0.5 }])
})

test('threat 23: what is kept is for the owner of the server alone', () => {
  const mode = (name: string) => statSync(path.join(keyed.folder, name)).mode & 0o077
  assert.deepEqual(['uploads', 'work', 'session.secret'].map(mode), [0, 0, 0])
  writeFileSync(path.join(keyed.folder, 'uploads', 'probe'), '')
})
