// Asks the server for videos. Each click has its own idempotency key, which is kept until the server has answered: if the
// connection breaks or the page is loaded again in between, one click still makes one video.
import { signal } from '@preact/signals'
import { post, Refusal, request } from './api.ts'
import { clear, draft, file, model, settings, strength, write } from './draft.ts'
import type { Settings, Video } from './protocol.ts'
import { keyWanted, put, reconnect } from './videos.ts'

interface Wish {
  readonly key: string
  readonly path: string
  readonly body: Settings
}

const place = 'torchreel.wishes'

export const sending = signal(false)
/** Why the server refused the last wish. */
export const refusal = signal<Refusal | undefined>(undefined)
/** The wishes that the server has not answered. */
export const wishes = signal<readonly Wish[]>(stored())

/** Sends the draft, and empties the composer when the server has it. */
export async function submitDraft(): Promise<void> {
  const { prompt, from } = draft.value
  if (sending.value || !prompt.trim() || !model.value) return
  const { strength: _, ...rest } = settings.value
  const body = { ...rest, prompt: prompt.trim(), model: model.value.id }
  const started = { ...body, strength: strength.value }
  sending.value = true
  try {
    const sent = file.value
      ? await upload(file.value, started)
      : from
        ? await send(`/v1/videos/${from}/remix`, started)
        : await send('/v1/videos', body)
    if (sent) clear()
  } finally {
    sending.value = false
  }
}

/** Makes a video of a prompt and settings. True: the server has it, or gets it as soon as it is back. */
export function make(body: Settings): Promise<boolean> {
  return send('/v1/videos', body)
}

/** The same prompt and settings, and the same video to start from, with a new seed. */
export function again(video: Video): Promise<boolean> {
  const { seed: _, ...settings } = video.torchreel.settings
  const body = { ...settings, prompt: video.prompt ?? '', model: video.model }
  const { remixed_from_video_id: from } = video
  return from && settings.strength !== undefined ? send(`/v1/videos/${from}/remix`, body) : make(body)
}

/** False for what started from a file: the page does not have it. */
export const canRepeat = ({ remixed_from_video_id: from, torchreel: { settings } }: Video): boolean =>
  settings.strength === undefined || from !== null

/** Sends the wishes that had no answer, from this visit or an earlier one. */
export async function sendLeftOver(): Promise<void> {
  for (const wish of wishes.value) {
    if (onTheWay.has(wish.key)) continue
    const { prompt } = wish.body
    if (!(await fulfil(wish)) && !draft.value.prompt && typeof prompt === 'string') write({ prompt })
  }
}

function send(path: string, body: Settings): Promise<boolean> {
  const wish = { key: newKey(), path, body }
  keep([...stored(), wish])
  return fulfil(wish)
}

/** Why the server asked for patience; it gets the wishes again every two seconds. */
export const unready = signal<string | undefined>(undefined)

let retry: ReturnType<typeof setTimeout> | undefined

function sendLater(why: string): void {
  unready.value = why
  clearTimeout(retry)
  retry = setTimeout(sendLeftOver, 2000)
}

/** The keys of the requests that wait for their answer now. */
const onTheWay = new Set<string>()

async function fulfil({ key, path, body }: Wish): Promise<boolean> {
  refusal.value = undefined
  unready.value = undefined
  onTheWay.add(key)
  try {
    put(await post<Video>(path, body, { 'idempotency-key': key }))
  } catch (error) {
    if (error instanceof Refusal && (error.status === 0 || error.status === 503)) {
      if (error.status === 503) sendLater(error.message)
      else reconnect()
      return true
    }
    refuse(error)
    return forget(key, false)
  } finally {
    onTheWay.delete(key)
  }
  return forget(key, true)
}

/** A file cannot be kept for later, so an upload without an answer is refused. */
async function upload(source: File, body: Settings): Promise<boolean> {
  refusal.value = undefined
  const form = new FormData()
  for (const [name, value] of Object.entries(body)) {
    form.set(name, typeof value === 'object' ? JSON.stringify(value) : String(value))
  }
  form.set('input_reference', source)
  try {
    const headers = { 'idempotency-key': newKey() }
    put(await request<Video>('/v1/videos', { method: 'POST', headers, body: form }))
    return true
  } catch (error) {
    refuse(error)
    return false
  }
}

function refuse(error: unknown): void {
  if (!(error instanceof Refusal)) throw error
  refusal.value = error
  if (error.status === 401) keyWanted.value = true
}

/** Other tabs of the page have wishes in the same place. */
function keep(left: readonly Wish[]): void {
  wishes.value = left
  localStorage.setItem(place, JSON.stringify(left))
}

function forget(key: string, fulfilled: boolean): boolean {
  keep(stored().filter((wish) => wish.key !== key))
  return fulfilled
}

/** 128 random bits. `crypto.randomUUID` is not there on a page over plain HTTP from another machine. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function stored(): readonly Wish[] {
  try {
    const left: unknown = JSON.parse(localStorage.getItem(place) ?? '[]')
    return Array.isArray(left) ? left : []
  } catch {
    return []
  }
}
