// MCP at /mcp of a server with keys, through the protocol's own client.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { pino } from 'pino'
import { createServer } from 'torchreel-server'
import { addKey } from '#server/http/keys.js'
import { type StartedServer, startServer } from '../clients/start_server.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-mcp-'))
const keys = path.join(folder, 'keys')
const clients: Client[] = []
let server: StartedServer
let ann: string
let ben: string
before(async () => {
  ann = await addKey(keys, 'ann', false)
  ben = await addKey(keys, 'ben', false)
  server = await startServer({ keys })
})
after(async () => {
  for (const client of clients) await client.close()
  await server.stop()
  rmSync(folder, { recursive: true })
})

/** @param mode 'legacy': the protocol's sessions of before 2026 */
async function connect(key: string, mode: 'auto' | 'legacy' = 'auto', url = server.url): Promise<Client> {
  const client = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode } })
  clients.push(client)
  const headers = { authorization: `Bearer ${key}` }
  const address = new URL(`${url}/mcp`)
  await client.connect(new StreamableHTTPClientTransport(address, { requestInit: { headers } }) as never)
  return client
}

const prompt = 'a big red circle moving left'

test('make_video as the holder of a key, whose videos nobody else sees', async () => {
  const mine = await connect(ann)
  const told: number[] = []
  const call = { name: 'make_video', arguments: { prompt, num_inference_steps: 2, seed: 7 } }
  const made = await mine.callTool(call, { onprogress: ({ progress }) => told.push(progress) })
  assert.equal(made.isError ?? false, false, JSON.stringify(made.content))
  const { id, uri, seed } = made.structuredContent as { id: string; uri: string; seed: number }
  assert.deepEqual([uri, seed, told.at(-1)], [`${server.url}/v1/videos/${id}/content`, 7, 100])
  const file = await fetch(uri, { headers: { authorization: `Bearer ${ann}` } })
  assert.equal(Buffer.from(await file.arrayBuffer()).toString('latin1', 4, 8), 'ftyp')

  const other = await connect(ben)
  const seen = await other.callTool({ name: 'video_status', arguments: { id } })
  assert.equal(seen.isError, true)
  const list = await other.callTool({ name: 'list_videos', arguments: {} })
  assert.deepEqual(list.structuredContent, { videos: [], has_more: false })
})

test('its arguments have the defaults and ranges of the model', async () => {
  const client = await connect(ann)
  const { tools } = await client.listTools()
  const { properties } = tools.find(({ name }) => name === 'make_video')?.inputSchema ?? {}
  const { width, num_inference_steps: steps, model } = properties as Record<string, Record<string, unknown>>
  assert.deepEqual([width?.default, width?.multipleOf], [64, 8])
  assert.deepEqual([steps?.type, steps?.default, steps?.maximum], ['integer', 25, 200])
  assert.deepEqual(model?.enum, ['shapes'])
  const wrong = await client.callTool({ name: 'make_video', arguments: { prompt, num_step: 2 } })
  assert.match(
    JSON.stringify(wrong.content),
    /there is no field num_step; did you mean num_inference_steps\?/,
  )
})

for (const mode of ['auto', 'legacy'] as const)
  test(`a cancelled call cancels its video (${mode})`, async () => {
    const client = await connect(ben, mode)
    const watcher = await connect(ben)
    const prompt = `a circle that a client cancels (${mode})`
    const find = async () => {
      const { structuredContent } = await watcher.callTool({ name: 'list_videos', arguments: {} })
      const { videos } = structuredContent as { videos: { prompt: string; error?: { code: string } }[] }
      return videos.find((video) => video.prompt === prompt)
    }
    const aborted = new AbortController()
    const call = { name: 'make_video', arguments: { prompt, num_inference_steps: 200 } }
    const answer = client.callTool(call, { signal: aborted.signal })
    while (!(await find())) await new Promise((resolve) => setTimeout(resolve, 50))
    aborted.abort(new Error('enough'))
    await assert.rejects(answer)
    while ((await find())?.error?.code !== 'cancelled')
      await new Promise((resolve) => setTimeout(resolve, 50))
  })

test('a session of the protocol before 2026 serves its own caller only', async () => {
  const client = new Client({ name: 'test', version: '1.0.0' })
  clients.push(client)
  const headers = { authorization: `Bearer ${ann}` }
  const transport = new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`), {
    requestInit: { headers },
  })
  await client.connect(transport as never)
  const made = await client.callTool({
    ...{ name: 'make_video', arguments: { prompt, num_inference_steps: 2 } },
  })
  assert.equal(made.isError ?? false, false)
  const ask = (key: string, session: string) =>
    fetch(`${server.url}/mcp`, {
      method: 'POST',
      headers: {
        ...{ authorization: `Bearer ${key}`, 'mcp-session-id': session },
        ...{ 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 9, method: 'tools/list' }),
    })
  const session = transport.sessionId ?? ''
  assert.equal((await ask(ann, session)).status, 200)
  assert.equal((await ask(ben, session)).status, 404)
  assert.equal((await ask(ann, 'another')).status, 404)
  await transport.terminateSession()
  assert.equal((await ask(ann, session)).status, 404)
})

test("the server's end breaks a call off, not its video", async () => {
  const data = path.join(folder, 'ending')
  const options = { data, port: 0, keys, logger: pino({ level: 'silent' }) }
  const ending = await createServer(options)
  const url = await ending.listen()
  const client = await connect(ann, 'legacy', url)
  const call = { name: 'make_video', arguments: { prompt, num_inference_steps: 200 } }
  const answer = client.callTool(call).catch((error: Error) => error)
  let [job] = await ending.jobs.unfinished()
  while (job?.state !== 'running') {
    await new Promise((resolve) => setTimeout(resolve, 20))
    ;[job] = await ending.jobs.unfinished()
  }
  await ending.close()
  await client.close()
  await answer
  const next = await createServer({ ...options, workers: [] })
  assert.equal((await next.jobs.get(job.id))?.state, 'queued')
  await next.close()
})

test('without a key, with a wrong one, or from a page elsewhere: refused', async () => {
  const ask = (headers: Record<string, string>) =>
    fetch(`${server.url}/mcp`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...headers,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
    })
  assert.equal((await ask({})).status, 401)
  assert.equal((await ask({ authorization: 'Bearer wrong' })).status, 401)
  const authorization = `Bearer ${ann}`
  assert.equal((await ask({ authorization, origin: 'https://elsewhere.example' })).status, 403)
  await assert.rejects(connect('wrong'))
})

test('of as many sessions as there may be, each goes on', async () => {
  const first = await connect(ann, 'legacy')
  const params = {
    protocolVersion: '2025-06-18',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  }
  for (let count = 1; count < 256; count++) {
    const answer = await fetch(`${server.url}/mcp`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${ann}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }),
    })
    assert.equal(answer.status, 200)
    await answer.body?.cancel()
  }
  assert.ok((await first.listTools()).tools.length > 0)
})
