// `torchreel-server mcp` over stdio, through the protocol's own client.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { getRequestListener } from '@hono/node-server'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { FakeServer } from './fake_server.js'

const cli = fileURLToPath(new URL('../../../server/dist/cli/main.js', import.meta.url))
const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-mcp-'))
after(() => rmSync(folder, { recursive: true }))

const strays: Error[] = []
async function connect(...parameters: string[]) {
  const transport = new StdioClientTransport({
    ...{ command: process.execPath, args: [cli, 'mcp', ...parameters], stderr: 'pipe' },
  })
  const client = new Client({ name: 'test', version: '1.0.0' })
  client.onerror = (error) => strays.push(error) // such as for a line that is not of the protocol
  await client.connect(transport)
  return client
}

test('with a server of its own: the file lies in its folder, and the process ends with the client', async () => {
  const client = await connect('--model', 'shapes', '--data', folder)
  const told: number[] = []
  const call = {
    name: 'make_video',
    arguments: { prompt: 'a big red circle', num_inference_steps: 2, seed: 7 },
  }
  const made = await client.callTool(call, { onprogress: ({ progress }) => told.push(progress) })
  assert.equal(made.isError ?? false, false, JSON.stringify(made))
  const { uri, seed, status } = made.structuredContent as { uri: string; seed: number; status: string }
  assert.deepEqual([status, seed], ['completed', 7])
  const file = fileURLToPath(uri)
  assert.ok(file.startsWith(folder))
  assert.equal(readFileSync(file).toString('latin1', 4, 8), 'ftyp')
  const [, , picture] = made.content as { type: string; data?: string }[]
  assert.equal(Buffer.from(picture?.data ?? '', 'base64').toString('latin1', 1, 4), 'PNG')
  assert.equal(told.at(-1), 100)
  await client.close()
  assert.ok(existsSync(file))
  assert.deepEqual(strays, [])
})

test('--server: the tools use a server that runs elsewhere', async () => {
  const fake = new FakeServer()
  fake.key = 'secret'
  const server = createServer(getRequestListener(fake.answer))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const origin = `http://127.0.0.1:${port}`
  try {
    const client = await connect('--server', origin, '--key', 'secret')
    const made = await client.callTool({ name: 'make_video', arguments: { prompt: 'a boat' } })
    const { id, uri } = made.structuredContent as { id: string; uri: string }
    assert.equal(uri, `${origin}/v1/videos/${id}/content`)
    await client.close()
  } finally {
    server.close()
  }
})
