import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import {
  type CallToolResult,
  fromJsonSchema,
  type JsonSchemaType,
  McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server'
import { z } from 'zod'
import { type Api, Refused, type VideoFacts } from './api.js'

/** Clients end a call after 60 s, so a tool answers before this many seconds. */
const mostSeconds = 45
/** Of these, seconds kept for the picture of a video that is done. */
const reserve = 3

const id = z
  .string()
  .regex(/^[\w-]{1,100}$/, 'this is no id')
  .describe('the id of a video, as make_video gave it')

const videoSchema = z.object({
  id: z.string(),
  status: z.enum(['queued', 'in_progress', 'completed', 'failed']),
  progress: z.number().describe('percent'),
  model: z.string(),
  prompt: z.string().nullable(),
  size: z.string(),
  seconds: z.string(),
  seed: z.number(),
  eta_seconds: z.number().optional().describe('until the stage ends'),
  queue_position: z.number().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  uri: z.string().optional().describe('where the file is'),
  warnings: z.array(z.string()).optional(),
})

export interface ToolOptions {
  readonly version: string
  /** The JSON Schema of make_video's arguments. */
  readonly fields: JsonSchemaType
  /** Where a finished video's file is: a file on this machine, or a URL. */
  readonly uriOf: (id: string) => string
  /** Seconds that make_video waits for its video. */
  readonly seconds?: number
}

/** An MCP server whose tools call torchreel's HTTP interface. One for a connection or a request. */
export function createMcpServer(api: Api, options: ToolOptions): McpServer {
  const { version, fields, uriOf, seconds = mostSeconds } = options
  const server = new McpServer({ name: 'torchreel', title: 'torchreel: text to video', version })
  const show = (video: VideoFacts) => describe(api, video, uriOf)

  server.registerTool(
    'make_video',
    {
      title: 'Make a video',
      description:
        `Makes a short video from a prompt. Answers within ${mostSeconds} seconds: with the video, or with the id of one ` +
        'that is not finished yet. Then call video_status with this id. Only the prompt is needed; all else has defaults.',
      inputSchema: fromJsonSchema<Record<string, unknown>>(fields),
      outputSchema: videoSchema,
      annotations: { readOnlyHint: false, destructiveHint: false, openWorldHint: false },
    },
    async (body, context) => {
      const { signal } = context.mcpReq
      const end = performance.now() + (seconds - reserve) * 1000
      const { id } = await create(api, body, end, signal)
      const video = await watch(api, id, end, context)
      if (signal.aborted) await api.json(`/videos/${id}/cancel`, { method: 'POST' })
      const result = await show(video)
      return video.status === 'failed' ? { ...result, isError: true } : result
    },
  )

  server.registerTool(
    'video_status',
    {
      title: 'Look at a video',
      description:
        'Says how far a video is, and shows it when it is done. With wait_seconds it waits for the end, at most so long.',
      inputSchema: z.object({
        id,
        wait_seconds: z.number().min(0).max(mostSeconds).default(0),
      }),
      outputSchema: videoSchema,
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    async ({ id, wait_seconds: patience }, context) =>
      show(
        await watch(api, id, performance.now() + Math.min(patience, mostSeconds - reserve) * 1000, context),
      ),
  )

  server.registerTool(
    'cancel_video',
    {
      title: 'Cancel a video',
      description: 'Cancels a video that waits or is being made. One that has ended stays as it is.',
      inputSchema: z.object({ id }),
      outputSchema: videoSchema,
      annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
    },
    async ({ id }) => show(await api.json<VideoFacts>(`/videos/${id}/cancel`, { method: 'POST' })),
  )

  server.registerTool(
    'list_videos',
    {
      title: 'List videos',
      description: 'Lists videos, the newest first.',
      inputSchema: z.object({
        limit: z.number().int().min(1).max(100).default(20),
        after: z.string().optional().describe('the id of the last video of the page before'),
      }),
      outputSchema: z.object({ videos: z.array(videoSchema), has_more: z.boolean() }),
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    async ({ limit, after }) => {
      const query = new URLSearchParams({ limit: `${limit}`, order: 'desc', ...(after && { after }) })
      const page = await api.json<{ data: VideoFacts[]; has_more: boolean }>(`/videos?${query}`)
      const lines = page.data.map((video) => `${video.id} ${sentence(video)} – ${video.prompt ?? ''}`)
      if (page.has_more) lines.push(`There are more: list_videos with after ${page.data.at(-1)?.id}.`)
      return {
        content: [{ type: 'text', text: lines.join('\n') || 'There are no videos.' }],
        structuredContent: { videos: page.data.map((video) => facts(video, uriOf)), has_more: page.has_more },
      }
    },
  )

  server.registerTool(
    'list_models',
    {
      title: 'List models',
      description: 'Lists the models of this server. The first one is the default.',
      inputSchema: z.object({}),
      outputSchema: z.object({ models: z.array(z.string()) }),
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    async () => {
      const { data } = await api.json<{ data: { id: string }[] }>('/models')
      const models = data.map(({ id }) => id)
      return { content: [{ type: 'text', text: models.join('\n') }], structuredContent: { models } }
    },
  )

  return server
}

/** Asks for a video. A server that cannot take it yet, because its model is being loaded, is asked again until the end. */
async function create(api: Api, body: object, end: number, signal: AbortSignal): Promise<VideoFacts> {
  const headers = { 'idempotency-key': `mcp_${randomUUID()}` }
  for (;;) {
    try {
      return await api.json<VideoFacts>('/videos', { method: 'POST', body, headers })
    } catch (error) {
      const isPassing = error instanceof Refused && error.status === 503
      if (!isPassing || performance.now() > end || signal.aborted) throw error
      await wait(500, undefined, { signal }).catch(() => {})
    }
  }
}

/** Looks at a video until it has ended, the time is over or the call is cancelled, and reports its progress. */
async function watch(api: Api, id: string, end: number, context: ServerContext): Promise<VideoFacts> {
  const { signal, _meta } = context.mcpReq
  let told = -1
  for (let pause = 200; ; pause = Math.min(pause * 1.5, 1000)) {
    const video = await api.json<VideoFacts>(`/videos/${id}`)
    // Progress must grow from one notification to the next.
    if (_meta?.progressToken !== undefined && video.progress > told) {
      told = video.progress
      const { progressToken } = _meta
      await context.mcpReq.notify({
        method: 'notifications/progress',
        params: { progressToken, progress: told, total: 100, message: sentence(video) },
      })
    }
    const left = end - performance.now()
    if (video.status === 'completed' || video.status === 'failed' || left <= 0 || signal.aborted) return video
    await wait(Math.min(pause, left), undefined, { signal }).catch(() => {})
  }
}

/** A video for an assistant: a sentence, the file, and its middle frame as a picture. */
async function describe(
  api: Api,
  video: VideoFacts,
  uriOf: ToolOptions['uriOf'],
): Promise<CallToolResult & { structuredContent: z.infer<typeof videoSchema> }> {
  const { id, status } = video
  const done = status === 'completed'
  const advice = status === 'queued' || status === 'in_progress' ? ' Ask video_status for it later.' : ''
  const content: CallToolResult['content'] = [{ type: 'text', text: `${id}: ${sentence(video)}.${advice}` }]
  if (done) {
    const png = await api.bytes(`/videos/${id}/content?variant=thumbnail`)
    content.push(
      { type: 'resource_link', uri: uriOf(id), name: `${id}.mp4`, mimeType: 'video/mp4' },
      { type: 'image', data: png.toString('base64'), mimeType: 'image/png' },
    )
  }
  return { content, structuredContent: facts(video, uriOf) }
}

function facts(video: VideoFacts, uriOf: ToolOptions['uriOf']): z.infer<typeof videoSchema> {
  const { id, status, progress, model, prompt, size, seconds, error, torchreel } = video
  const { seed, eta_ms: eta, queue_position: position, warnings } = torchreel
  return {
    ...{ id, status, progress, model, prompt, size, seconds, seed },
    ...(typeof eta === 'number' && { eta_seconds: Math.round(eta / 1000) }),
    ...(typeof position === 'number' && { queue_position: position }),
    ...(error && { error: { code: error.code, message: error.message } }),
    ...(status === 'completed' && { uri: uriOf(id) }),
    ...(warnings?.length && { warnings: [...warnings] }),
  }
}

const inSeconds = (value: number): string => `${value} ${value === 1 ? 'second' : 'seconds'}`

/** How a video is, without a full stop. */
function sentence({ status, size, seconds, error, torchreel }: VideoFacts): string {
  const { state, seed, stage, step, steps, eta_ms: eta, queue_position: position } = torchreel
  if (status === 'completed') return `done, ${inSeconds(Number(seconds))} of ${size}, seed ${seed}`
  if (state === 'cancelled') return 'cancelled'
  if (status === 'failed') return `failed, ${error?.code}: ${error?.message}`
  if (status === 'queued') return typeof position === 'number' ? `waiting, place ${position}` : 'waiting'
  const left = typeof eta === 'number' ? `, about ${inSeconds(Math.ceil(eta / 1000))} left` : ''
  return `${stage ?? 'running'}${step && steps ? ` ${step} of ${steps}` : ''}${left}`
}
