import { z } from 'zod'
import { onWire, secondsOf } from './fields.js'
import { type Job, type State, states } from './jobs/job.js'

// A job as clients see it: OpenAI's Video, with what torchreel knows besides in one more object.

const jsonValue = z.unknown()

export const errorSchema = z.object({
  code: z.string().describe("torchreel's code, or cancelled, worker_lost, timeout"),
  message: z.string(),
  param: z.string().nullable().optional(),
})

export const videoSchema = z
  .object({
    id: z.string().describe('video_ and 26 characters; ids sort by time'),
    object: z.literal('video'),
    status: z
      .enum(['queued', 'in_progress', 'completed', 'failed'])
      .describe('a cancelled job has failed, with the error code cancelled'),
    progress: z.number().min(0).max(100).describe('percent'),
    created_at: z.number().int().describe('seconds since 1970'),
    completed_at: z.number().int().nullable(),
    expires_at: z.number().int().nullable(),
    model: z.string(),
    prompt: z.string().nullable(),
    size: z.string().describe('WIDTHxHEIGHT'),
    seconds: z.string(),
    error: errorSchema.nullable(),
    remixed_from_video_id: z.string().nullable(),
    torchreel: z.object({
      state: z.enum(states),
      stage: z.string().nullable(),
      step: z.number().int().nullable(),
      steps: z.number().int().nullable(),
      eta_ms: z.number().nullable().describe('until the stage ends'),
      queue_position: z.number().int().nullable().describe('from 1'),
      attempt: z.number().int(),
      seed: z.number().int(),
      settings: z
        .record(z.string(), jsonValue)
        .describe('the fields of a request that makes this video again'),
      warnings: z.array(z.string()),
      preview: z.string().nullable().describe('the path of the newest preview, an animated PNG'),
      queued_ms: z.number().nullable(),
      timings: z.record(z.string(), z.number()).nullable().describe('milliseconds by stage'),
      owner: z.string(),
    }),
  })
  .meta({ id: 'Video' })

export type Video = z.infer<typeof videoSchema>

export const videoListSchema = z
  .object({
    object: z.literal('list'),
    data: z.array(videoSchema),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  })
  .meta({ id: 'VideoList' })

export const deletedSchema = z
  .object({ id: z.string(), object: z.literal('video.deleted'), deleted: z.literal(true) })
  .meta({ id: 'DeletedVideo' })

const statusOf: Readonly<Record<State, Video['status']>> = {
  queued: 'queued',
  running: 'in_progress',
  cancelling: 'in_progress',
  completed: 'completed',
  failed: 'failed',
  cancelled: 'failed',
}

export function toVideo(job: Job): Video {
  const { id, request, state, made, error, progress } = job
  const { width, height, frames, fps } = made ?? request.fitted
  const seconds = (at: number | undefined) => (at === undefined ? null : Math.floor(at / 1000))
  return {
    id,
    object: 'video',
    status: statusOf[state],
    progress: percent(job),
    created_at: Math.floor(job.createdAt / 1000),
    completed_at: state === 'completed' ? seconds(job.endedAt) : null,
    expires_at: seconds(job.expiresAt),
    model: request.model,
    prompt: request.prompt,
    size: `${width}x${height}`,
    seconds: String(secondsOf({ frames, fps })),
    error: error ? { code: error.code, message: error.message, param: error.parameter ?? null } : null,
    remixed_from_video_id: request.remixOf ?? null,
    torchreel: {
      state,
      stage: progress?.stage ?? null,
      step: progress?.step ?? null,
      steps: progress?.steps ?? null,
      eta_ms: progress?.etaMs === undefined ? null : Math.round(progress.etaMs),
      queue_position: job.position ?? null,
      attempt: job.attempt,
      seed: request.options.seed,
      settings: {
        ...onWire(request.options),
        ...(request.loras?.length && { lora: request.loras.map(({ name, scale }) => ({ name, scale })) }),
      },
      warnings: [...(made?.warnings ?? [])],
      preview:
        state === 'running' && job.previews > 0
          ? `/v1/videos/${id}/content?variant=preview&n=${job.previews}`
          : null,
      queued_ms: job.waitedMs === undefined ? null : Math.round(job.waitedMs),
      timings: made ? { ...made.timings } : null,
      owner: job.owner,
    },
  }
}

/** The share of the whole that a stage begins and ends at: most of the time goes into denoising. */
const shares: Readonly<Record<string, readonly [from: number, to: number]>> = {
  encode: [0, 5],
  denoise: [5, 90],
  decode: [90, 99],
}

function percent({ state, progress }: Job): number {
  if (state === 'completed') return 100
  const [from, to] = shares[progress?.stage ?? ''] ?? [0, 0]
  return Math.round(from + ((to - from) * (progress?.step ?? 0)) / Math.max(1, progress?.steps ?? 1))
}
