import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { unlessAborted } from '../abort.js'
import { invalidArgument } from '../errors.js'
import { type CallSettings, type ReadCall, readCall, settingsOf } from './read_call.js'
import type { ServerClient, ServerVideo } from './server_client.js'
import { isPassing, notRetryable, ServerCallError } from './server_error.js'
import { readEvents } from './server_events.js'
import {
  type CallHeaders,
  type JsonValue,
  maxVideosPerCall,
  type VideoCallOptions,
  type VideoModel,
  type VideoResult,
  type VideoStart,
  type VideoStatus,
  type VideoStatusOptions,
  type VideoWarning,
} from './specification.js'

/** The names of a server's fields; the others are the options' in snake_case. */
const fieldNames: Partial<Record<keyof CallSettings, string>> = {
  steps: 'num_inference_steps',
  frames: 'num_frames',
}

/** A stream of events that brings nothing for this long is given up; a server sends a comment each 15 s. */
const silence = 60_000
/** How long an aborted call waits for the server to confirm the cancelling. */
const cancelPatience = 5_000
/** Failed looks at a running video, one after the other, before the call gives up: about three minutes of a server's absence. */
const failuresBorne = 8

/** A model on a torchreel server. */
export class ServerModel implements VideoModel {
  // No #private names: ai 7 calls the methods on a Proxy of the model.
  readonly specificationVersion = 'v3'
  readonly provider = 'torchreel'
  readonly modelId: string
  readonly maxVideosPerCall = maxVideosPerCall
  private readonly client: ServerClient
  /** By the ids of started videos: ends the watch over the signal that cancels them. */
  private readonly watched = new Map<string, () => void>()

  constructor(modelId: string, client: ServerClient) {
    this.modelId = modelId
    this.client = client
  }

  async doGenerate(options: VideoCallOptions): Promise<VideoResult> {
    const call = readCall(options)
    const headers = plainHeaders(options.headers)
    const { abortSignal: signal } = options
    const { ids, warnings } = await this.start(call, options)
    try {
      const ended = await Promise.all(ids.map((id) => this.ended(id, headers, signal)))
      const failed = ended.find(({ status }) => status === 'failed')
      if (failed) throw this.failure(failed)
      const result = await this.result(ended, headers, signal)
      return { ...result, warnings: [...warnings, ...result.warnings] }
    } catch (error) {
      await Promise.all(ids.map((id) => this.cancel(id, headers)))
      throw notRetryable(error) // a repetition would make a second video
    }
  }

  async doStart(options: VideoCallOptions & { webhookUrl?: string }): Promise<VideoStart> {
    const call = readCall(options)
    const { ids, warnings, response } = await this.start(call, options)
    this.cancelOnAbort(ids, options)
    const operation = { ids }
    return {
      operation,
      warnings,
      providerMetadata: { torchreel: operation },
      response: this.response(response),
    }
  }

  async doStatus({ operation, headers: given, abortSignal }: VideoStatusOptions): Promise<VideoStatus> {
    const { ids } = (operation ?? {}) as { ids?: unknown }
    if (!Array.isArray(ids) || ids.length === 0 || !ids.every((id) => typeof id === 'string'))
      throw invalidArgument('operation', 'one that a model of this server has started', operation)
    const headers = plainHeaders(given)
    const looks = await Promise.all(ids.map((id: string) => this.look(id, headers, abortSignal)))
    const videos = looks.map(({ value }) => value)
    const response = this.response(looks[0]?.headers)
    const failed = videos.find(({ status }) => status === 'failed')
    if (!failed && videos.some(({ status }) => status !== 'completed'))
      return { status: 'pending', providerMetadata: { torchreel: { videos: videos.map(facts) } }, response }
    for (const id of ids) this.watched.get(id)?.()
    if (failed) return { status: 'error', error: this.failure(failed).message, response }
    return { status: 'completed', ...(await this.result(videos, headers, abortSignal)), response }
  }

  /** Starts all videos of a call, or none. An abort meanwhile cancels those that the server has accepted. */
  private async start(call: ReadCall, { headers, abortSignal }: VideoCallOptions) {
    abortSignal?.throwIfAborted()
    const key = idempotencyKey(headers)
    const plain = plainHeaders(headers)
    const started = Array.from({ length: call.count }, (_, index) =>
      this.client.json<ServerVideo>('/videos', {
        method: 'POST',
        headers: { ...plain, 'idempotency-key': index === 0 ? key : `${key}-${index}` },
        body: fieldsOf(this.modelId, call, index),
      }),
    )
    // The signal does not end these requests: then nobody would know the ids of videos that the server has accepted.
    const cancelAll = () =>
      Promise.all(
        started.map((one) =>
          one.then(
            ({ value }) => this.cancel(value.id, plain),
            () => {},
          ),
        ),
      )
    try {
      const answers = await unlessAborted(Promise.all(started), abortSignal)
      const videos = answers.map(({ value }) => value)
      return {
        ids: videos.map(({ id }) => id),
        warnings: [...call.warnings, ...roundedDuration(call, videos[0])],
        response: answers[0]?.headers,
      }
    } catch (error) {
      await Promise.race([cancelAll(), wait(cancelPatience, undefined, { ref: false })])
      throw error
    }
  }

  private cancelOnAbort(ids: readonly string[], { headers, abortSignal: signal }: VideoCallOptions): void {
    if (!signal) return
    const plain = plainHeaders(headers)
    for (const id of ids) {
      const cancel = () => {
        this.watched.delete(id)
        void this.cancel(id, plain)
      }
      signal.addEventListener('abort', cancel, { once: true })
      this.watched.set(id, () => {
        this.watched.delete(id)
        signal.removeEventListener('abort', cancel)
      })
    }
  }

  /** Cancels a video; one that has ended stays as it is. */
  private async cancel(id: string, headers: CallHeaders): Promise<void> {
    const signal = AbortSignal.timeout(cancelPatience)
    const request = { method: 'POST', headers, signal }
    await this.client.json(`/videos/${encodeURIComponent(id)}/cancel`, request).catch(() => {})
  }

  private look(id: string, headers: CallHeaders, signal: AbortSignal | undefined) {
    return this.client.json<ServerVideo>(`/videos/${encodeURIComponent(id)}`, { headers, signal })
  }

  /** A video as soon as it has ended. */
  private async ended(
    id: string,
    headers: CallHeaders,
    signal: AbortSignal | undefined,
  ): Promise<ServerVideo> {
    for (let failures = 0; ; ) {
      let pause = 1000
      try {
        const look = await this.look(id, headers, signal)
        if (hasEnded(look.value)) return look.value
        failures = 0
        pause = Number(look.headers['openai-poll-after-ms']) || pause
        const seen = await this.endSeen(id, headers, signal)
        if (seen) return seen
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof ServerCallError && isPassing(error)) || ++failures > failuresBorne) throw error
        pause = 1000 * 2 ** Math.min(failures, 5)
      }
      await unlessAborted(wait(pause), signal)
    }
  }

  /** The end of a video from its stream of events; undefined if the stream ends before it, or there is none. */
  private async endSeen(id: string, headers: CallHeaders, signal: AbortSignal | undefined) {
    const silent = new AbortController()
    const timer = setTimeout(() => silent.abort(), silence).unref()
    const ended = signal ? AbortSignal.any([signal, silent.signal]) : silent.signal
    try {
      const request = { headers: { ...headers, accept: 'text/event-stream' }, signal: ended }
      const stream = await this.client.send(
        `/videos/${encodeURIComponent(id)}/events`,
        request,
        async ({ body }) => body,
      )
      if (!stream) return undefined
      const restartTimer = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          timer.refresh()
          controller.enqueue(chunk)
        },
      })
      const heard = stream.pipeThrough(restartTimer, { signal: ended })
      for await (const { event, data } of readEvents(heard)) {
        if (event !== 'video') continue
        const video = JSON.parse(data) as ServerVideo
        if (hasEnded(video)) return video
      }
    } catch {
      signal?.throwIfAborted() // Else a look says how the video is.
    } finally {
      clearTimeout(timer)
    }
    return undefined
  }

  private async result(
    videos: readonly ServerVideo[],
    headers: CallHeaders,
    signal: AbortSignal | undefined,
  ) {
    const contents = await Promise.all(videos.map(({ id }) => this.content(id, headers, signal)))
    const said = new Set(videos.flatMap(({ torchreel }) => torchreel?.warnings ?? []))
    return {
      videos: contents,
      warnings: Array.from(said, (message): VideoWarning => ({ type: 'other', message })),
      providerMetadata: { torchreel: { videos: videos.map(facts) } },
      response: this.response(undefined),
    }
  }

  private content(id: string, headers: CallHeaders, signal: AbortSignal | undefined) {
    const path = `/videos/${encodeURIComponent(id)}/content`
    return this.client.send(path, { headers, signal }, async (response) => ({
      type: 'binary' as const,
      data: new Uint8Array(await response.arrayBuffer()),
      mediaType: response.headers.get('content-type') ?? 'video/mp4',
    }))
  }

  private failure({ id, error }: ServerVideo): ServerCallError {
    const message = error?.message ?? `the server could not make ${id}`
    return new ServerCallError(message, {
      url: `${this.client.baseURL}/videos/${id}`,
      isRetryable: false,
      data: error,
    })
  }

  private response(headers: Record<string, string> | undefined) {
    return { timestamp: new Date(), modelId: this.modelId, headers }
  }
}

const hasEnded = ({ status }: ServerVideo): boolean => status === 'completed' || status === 'failed'

function idempotencyKey(headers: CallHeaders = {}): string {
  const given = Object.entries(headers).find(([name]) => name.toLowerCase() === 'idempotency-key')?.[1]
  return given ?? `torchreel_${randomUUID()}`
}

/** The caller's headers for requests that make nothing. */
function plainHeaders(headers: CallHeaders = {}): CallHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'idempotency-key'),
  )
}

/** The fields of a request: JSON, or a form if it has a file. */
function fieldsOf(model: string, call: ReadCall, index: number): FormData | object {
  const { prompt, duration, source } = call
  const settings = Object.entries(settingsOf(call, index)).map(([name, value]) => [
    fieldNames[name as keyof CallSettings] ?? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ])
  const fields = {
    model,
    prompt,
    ...Object.fromEntries(settings),
    ...(duration !== undefined && { seconds: String(duration) }),
  }
  if (!source) return fields
  const form = new FormData()
  for (const [name, value] of Object.entries(fields))
    form.append(name, typeof value === 'string' ? value : JSON.stringify(value))
  form.append('input_reference', new Blob([source], { type: 'video/mp4' }), 'source.mp4')
  return form
}

/** Says it where the server's model cannot make a video of the duration that was asked for. */
function roundedDuration({ duration }: ReadCall, video: ServerVideo | undefined): VideoWarning[] {
  const seconds = Number(video?.seconds)
  if (duration === undefined || !(Math.abs(seconds - duration) > 0.001)) return []
  return [{ type: 'other', message: `duration: ${duration} seconds became ${seconds} seconds` }]
}

/** What a server says of how a video was made. */
function facts({ id, model, size, seconds, torchreel = {} }: ServerVideo): JsonValue {
  return JSON.parse(JSON.stringify({ id, model, size, seconds, ...torchreel })) as JsonValue
}
