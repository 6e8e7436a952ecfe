// The tools of MCP, through the protocol's own client: over memory, against a fake of the HTTP interface.
import assert from 'node:assert/strict'
import { afterEach, describe, test } from 'node:test'
import { Client, InMemoryTransport } from '@modelcontextprotocol/client'
import { Api } from '#server/mcp/api.js'
import { argumentsSchema } from '#server/mcp/fields.js'
import { createMcpServer } from '#server/mcp/tools.js'
import { FakeServer } from './fake_server.js'

const origin = 'http://127.0.0.1:8080'
const clients: Client[] = []
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close()
})

/** A client that is connected to a server in memory whose make_video waits for so many seconds. */
async function connect(server: FakeServer, seconds?: number): Promise<Client> {
  const api = new Api(origin, server.answer)
  const uriOf = (id: string) => `file:///videos/${id}/video.mp4`
  const options = { version: '1.0.0', fields: await argumentsSchema(api), uriOf, ...(seconds && { seconds }) }
  const [here, there] = InMemoryTransport.createLinkedPair()
  await createMcpServer(api, options).connect(there as never)
  const client = new Client({ name: 'test', version: '1.0.0' })
  clients.push(client)
  await client.connect(here)
  return client
}

const textOf = (result: { content?: unknown }) =>
  (result.content as { type: string; text?: string }[]).map(({ text = '' }) => text).join('')

describe('make_video', () => {
  test('gives a sentence, the file, a picture and the facts', async () => {
    const client = await connect(new FakeServer())
    const made = await client.callTool({ name: 'make_video', arguments: { prompt: 'a boat', seed: 7 } })
    const facts = made.structuredContent as Record<string, unknown>
    const [text, link, picture] = made.content as Record<string, unknown>[]
    assert.equal(text?.text, `${facts.id}: done, 2 seconds of 64x64, seed 7.`)
    const uri = `file:///videos/${facts.id}/video.mp4`
    assert.deepEqual(link, { type: 'resource_link', uri, name: `${facts.id}.mp4`, mimeType: 'video/mp4' })
    assert.equal(picture?.mimeType, 'image/png')
    assert.equal(Buffer.from(String(picture?.data), 'base64').toString('latin1', 1, 4), 'PNG')
    const { status, seed, prompt, model } = facts
    assert.deepEqual(
      { status, seed, prompt, model, uri: facts.uri },
      { status: 'completed', seed: 7, prompt: 'a boat', model: 'shapes', uri },
    )
  })

  test('its arguments are the fields of the server', async () => {
    const client = await connect(new FakeServer())
    const { tools } = await client.listTools()
    assert.deepEqual(tools.map(({ name }) => name).sort(), [
      ...['cancel_video', 'list_models', 'list_videos', 'make_video', 'video_status'],
    ])
    const { inputSchema } = tools.find(({ name }) => name === 'make_video') ?? {}
    const { properties = {}, required } = inputSchema ?? {}
    assert.deepEqual(
      [Object.keys(properties), required],
      [['prompt', 'model', 'seconds', 'seed', 'steps'], ['prompt']],
    )
    assert.deepEqual(properties.steps, {
      ...{ type: 'integer', minimum: 1, default: 25, description: 'denoising steps' },
    })
    const readOnly = tools.filter(({ annotations }) => annotations?.readOnlyHint).map(({ name }) => name)
    assert.deepEqual(readOnly.sort(), ['list_models', 'list_videos', 'video_status'])
  })

  test('reports progress while it waits', async () => {
    const server = new FakeServer()
    server.onVideo = () => {}
    const ahead = [0, 40, 40, 90]
    server.onLook = (video) => {
      const progress = ahead.shift()
      if (progress === undefined) return server.complete(video)
      Object.assign(video, { status: 'in_progress', progress })
      Object.assign(video.torchreel, { state: 'running', stage: 'denoise', step: progress, steps: 100 })
    }
    const client = await connect(server)
    const told: [number, string | undefined][] = []
    const call = { name: 'make_video', arguments: { prompt: 'a boat' } }
    await client.callTool(call, { onprogress: ({ progress, message }) => told.push([progress, message]) })
    assert.deepEqual(told, [
      [0, 'denoise'],
      [40, 'denoise 40 of 100'],
      [90, 'denoise 90 of 100'],
      [100, 'done, 2 seconds of 64x64, seed 4711'],
    ])
  })

  test('one that takes longer gives its id in time; video_status then waits for it', async () => {
    const server = new FakeServer()
    server.onVideo = () => {}
    const client = await connect(server, 4)
    const made = await client.callTool({ name: 'make_video', arguments: { prompt: 'a boat' } })
    const { id, status } = made.structuredContent as { id: string; status: string }
    assert.deepEqual([status, made.isError ?? false], ['queued', false])
    assert.match(textOf(made), /waiting, place 1\. Ask video_status for it later/)
    const asked = client.callTool({ name: 'video_status', arguments: { id, wait_seconds: 30 } })
    for (const video of server.videos) server.complete(video)
    assert.equal(((await asked).structuredContent as { status: string }).status, 'completed')
  })

  test('a cancelled call cancels the video', async () => {
    const server = new FakeServer()
    const made = new Promise((resolve) => {
      server.onVideo = resolve
    })
    const client = await connect(server)
    const aborted = new AbortController()
    const call = { name: 'make_video', arguments: { prompt: 'a boat' } }
    const answer = client.callTool(call, { signal: aborted.signal })
    await made
    aborted.abort(new Error('enough'))
    await assert.rejects(answer)
    while (server.videos[0]?.error?.code !== 'cancelled')
      await new Promise((resolve) => setTimeout(resolve, 10))
  })

  test("a mistake and a failed video are errors with the server's words", async () => {
    const server = new FakeServer()
    const client = await connect(server)
    const wrong = await client.callTool({ name: 'make_video', arguments: { prompt: 'a boat', step: 3 } })
    assert.deepEqual([wrong.isError, textOf(wrong)], [true, 'there is no field step; did you mean "steps"?'])
    const typed = await client.callTool({
      name: 'make_video',
      arguments: { prompt: 'a boat', steps: 'many' },
    })
    assert.equal(typed.isError, true)
    server.onVideo = (video) => {
      const error = { code: 'ERR_NUMERIC', message: 'not a number' }
      Object.assign(video, { status: 'failed', error })
      video.torchreel.state = 'failed'
    }
    const failed = await client.callTool({ name: 'make_video', arguments: { prompt: 'a boat' } })
    assert.equal(failed.isError, true)
    assert.match(textOf(failed), /failed, ERR_NUMERIC: not a number/)
  })
})

describe('the other tools', () => {
  test('an unknown id is an error, and an id is never a path', async () => {
    const server = new FakeServer()
    const client = await connect(server)
    const unknown = `video_${'0'.repeat(26)}`
    for (const name of ['video_status', 'cancel_video']) {
      const told = await client.callTool({ name, arguments: { id: unknown } })
      assert.deepEqual([told.isError, textOf(told)], [true, `there is no video ${unknown}`])
      const before = server.requests.length
      for (const id of ['../models', '..', 'a/b', 'a?b', ''])
        assert.equal((await client.callTool({ name, arguments: { id } })).isError, true)
      assert.equal(server.requests.length, before)
    }
  })

  test('cancel_video, list_videos, list_models', async () => {
    const server = new FakeServer()
    const client = await connect(server)
    for (const prompt of ['one', 'two', 'three'])
      await client.callTool({ name: 'make_video', arguments: { prompt } })
    server.onVideo = () => {}
    const waiting = await connect(server, 4).then((slow) =>
      slow.callTool({ name: 'make_video', arguments: { prompt: 'four' } }),
    )
    const { id } = waiting.structuredContent as { id: string }
    const cancelled = await client.callTool({ name: 'cancel_video', arguments: { id } })
    assert.deepEqual([cancelled.isError ?? false, textOf(cancelled)], [false, `${id}: cancelled.`])

    const list = await client.callTool({ name: 'list_videos', arguments: { limit: 2 } })
    const { videos, has_more } = list.structuredContent as { videos: { prompt: string }[]; has_more: boolean }
    assert.deepEqual([videos.map(({ prompt }) => prompt), has_more], [['four', 'three'], true])
    assert.match(textOf(list), /There are more: list_videos with after video_/)

    const models = await client.callTool({ name: 'list_models', arguments: {} })
    assert.deepEqual(models.structuredContent, { models: ['shapes', 'wan'] })
  })
})
