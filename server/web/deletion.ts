// Deletes videos after six seconds in which the reader can undo it. Until then the server knows nothing of it.
import { signal } from '@preact/signals'
import { Refusal, request } from './api.ts'
import type { Video } from './protocol.ts'
import { drop, hidden, notice } from './videos.ts'

const undoSeconds = 6

/** The video that was deleted last, while that can be undone. */
export const deleted = signal<Video | undefined>(undefined)

let timer: ReturnType<typeof setTimeout> | undefined

export function remove(video: Video): void {
  carryOut()
  hidden.value = new Set([...hidden.value, video.id])
  deleted.value = video
  timer = setTimeout(carryOut, undoSeconds * 1000)
}

export function undo(): void {
  clearTimeout(timer)
  if (deleted.value) show(deleted.value.id)
  deleted.value = undefined
}

/** Sends the deletion that waits. A page that is closed cannot be asked to undo it any more. */
export function carryOut(): void {
  clearTimeout(timer)
  const id = deleted.value?.id
  deleted.value = undefined
  if (id === undefined) return
  request(`/v1/videos/${id}`, { method: 'DELETE', keepalive: true })
    .then(() => drop(id))
    .catch((error) => {
      if (error instanceof Refusal && error.status === 404) drop(id)
      else notice(error)
    })
    .finally(() => show(id))
}

function show(id: string): void {
  hidden.value = new Set([...hidden.value].filter((other) => other !== id))
}
