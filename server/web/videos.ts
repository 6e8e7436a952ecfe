// All videos that the page knows: one map, which the server's events change.
import { computed, signal } from '@preact/signals'
import { Refusal, request } from './api.ts'
import { type Capabilities, unfinished, type Video, type VideoList } from './protocol.ts'

export const videos = signal<ReadonlyMap<string, Video>>(new Map())
export const capabilities = signal<Capabilities | undefined>(undefined)
/** Whether the first list has come. */
export const listed = signal(false)
export const more = signal(false)
export const away = signal(false)
export const keyWanted = signal(false)
/** Videos whose deletion can still be undone. */
export const hidden = signal<ReadonlySet<string>>(new Set())

const pageSize = 24

/** Newest first. Ids sort by the time of their creation. */
export const stream = computed(() =>
  [...videos.value.values()].filter(({ id }) => !hidden.value.has(id)).sort((a, b) => (a.id < b.id ? 1 : -1)),
)

const watchers = new Set<(video: Video, before: Video | undefined) => void>()

/** Calls `seen` with each change of a video that is told by the server. */
export function watch(seen: (video: Video, before: Video | undefined) => void): void {
  watchers.add(seen)
}

export function put(video: Video): void {
  const before = videos.value.get(video.id)
  fresh.add(video.id)
  videos.value = new Map(videos.value).set(video.id, video)
  for (const seen of watchers) seen(video, before)
}

export function drop(id: string): void {
  const left = new Map(videos.value)
  fresh.add(id)
  if (left.delete(id)) videos.value = left
}

/** What events changed while a list was on its way, which may be older than they are. */
const fresh = new Set<string>()

/** Reads the newest page again, and forgets the videos of it that are gone. */
async function refresh(): Promise<void> {
  fresh.clear()
  const list = await request<VideoList>(`/v1/videos?limit=${pageSize}`)
  const told = list.data.filter(({ id }) => !fresh.has(id))
  const oldest = list.data.at(-1)?.id ?? ''
  const known = videos.value
  const older = [...known.values()].filter(({ id }) => list.has_more && id < oldest)
  const changed = [...known.values()].filter(({ id }) => fresh.has(id))
  videos.value = new Map([...older, ...told, ...changed].map((video) => [video.id, video]))
  if (older.length === 0) {
    more.value = list.has_more
    oldestListed = list.last_id
  }
  listed.value = true
  for (const video of told) {
    const before = known.get(video.id)
    if (before && unfinished(before)) for (const seen of watchers) seen(video, before)
  }
}

let loadingMore = false
/** The videos after it have not been listed. Events may have brought some of them. */
let oldestListed: string | null = null

export async function loadMore(): Promise<void> {
  if (loadingMore || !more.value || oldestListed === null) return
  loadingMore = true
  try {
    const list = await request<VideoList>(`/v1/videos?limit=${pageSize}&after=${oldestListed}`)
    videos.value = new Map([...videos.value, ...list.data.map((video) => [video.id, video] as const)])
    more.value = list.has_more
    oldestListed = list.last_id
  } catch (error) {
    notice(error)
  } finally {
    loadingMore = false
  }
}

/** Reads one video that no list has brought, such as the one in the page's address. */
export async function fetchVideo(id: string): Promise<void> {
  put(await request<Video>(`/v1/videos/${id}`))
}

/** Shows an error that no single action caused: the server is away, or wants a key. */
export function notice(error: unknown): void {
  if (!(error instanceof Refusal)) throw error
  keyWanted.value = error.status === 401
  if (keyWanted.value) away.value = false
  else if (error.status === 0 || error.status >= 500) reconnect()
}

/** Reads what the server can do, and again while a model is being loaded. */
async function readCapabilities(): Promise<void> {
  clearTimeout(reading)
  capabilities.value = await request<Capabilities>('/v1/capabilities')
  const ready = capabilities.value.models.every((model) => model.ready)
  if (!ready) reading = setTimeout(() => readCapabilities().catch(notice), 1000)
}

let reading: ReturnType<typeof setTimeout> | undefined
let source: EventSource | undefined
let retry: ReturnType<typeof setTimeout> | undefined

/** After the server did not answer: tries again in two seconds. */
export function reconnect(): void {
  away.value = true
  clearTimeout(retry)
  retry = setTimeout(connect, 2000)
}

/** Reads everything, and keeps it right until the page is closed. */
export async function connect(): Promise<void> {
  clearTimeout(retry)
  source?.close()
  try {
    await readCapabilities()
  } catch (error) {
    notice(error)
    if (!keyWanted.value) reconnect()
    return
  }
  keyWanted.value = false
  source?.close() // another call may have opened it meanwhile
  source = new EventSource('/v1/events')
  source.onopen = async () => {
    try {
      await refresh()
      away.value = false
    } catch (error) {
      notice(error)
      if (!keyWanted.value) reconnect()
    }
  }
  source.onerror = () => {
    // The browser repeats a broken connection by itself, but not one that was refused.
    if (source?.readyState === EventSource.CLOSED) reconnect()
    else away.value = true
  }
  source.addEventListener('video', ({ data }) => put(JSON.parse(data)))
  source.addEventListener('removed', ({ data }) => drop(JSON.parse(data).id))
}

/**
 * A hidden tab that waits for nothing gives its connection back until it is shown: a browser has six for a host, and each
 * tab's events take one.
 */
export function restWhileHidden(): void {
  let resting = false
  document.addEventListener('visibilitychange', () => {
    const idle = !away.value && ![...videos.value.values()].some(unfinished)
    if (document.hidden && idle) {
      source?.close()
      resting = true
    } else if (!document.hidden && resting) {
      resting = false
      void connect()
    }
  })
}
