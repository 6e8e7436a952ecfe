// MCP at /mcp of a server with keys, through the protocol's own client.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
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

async function connect(key: string): Promise<Client> {
  const client = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
  clients.push(client)
  const headers = { authorization: `Bearer ${key}` }
  const address = new URL(`${server.url}/mcp`)
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

test('a client that is gone cancels what it waited for', async () => {
  const client = await connect(ben)
  const aborted = new AbortController()
  const call = { name: 'make_video', arguments: { prompt, num_inference_steps: 200 } }
  const answer = client.callTool(call, { signal: aborted.signal })
  const list = async () => {
    const { structuredContent } = await client.callTool({ name: 'list_videos', arguments: {} })
    return (structuredContent as { videos: { status: string; error?: { code: string } }[] }).videos
  }
  while ((await list()).length === 0) await new Promise((resolve) => setTimeout(resolve, 50))
  aborted.abort(new Error('enough'))
  await assert.rejects(answer)
  while ((await list())[0]?.error?.code !== 'cancelled')
    await new Promise((resolve) => setTimeout(resolve, 50))
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
