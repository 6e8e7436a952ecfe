// What is true of the whole page: the server is away, a video was just deleted, a screen reader hears.
import { useEffect, useRef } from 'preact/hooks'
import { spoken } from './announce.ts'
import { deleted, undo } from './deletion.ts'
import { unready, wishes } from './submit.ts'
import { away } from './videos.ts'
import { nameOf } from './words.ts'

export function Away() {
  const waiting = wishes.value.length
  return (
    <p class="away" role="status">
      {away.value && <>The server does not answer. This page keeps trying.</>}
      {!away.value && unready.value && `The server is not ready: ${unready.value}.`}
      {(away.value || unready.value) &&
        waiting > 0 &&
        (waiting === 1 ? ' Your request is kept.' : ` Your ${waiting} requests are kept.`)}
    </p>
  )
}

export function Undo() {
  const button = useRef<HTMLButtonElement>(null)
  const id = deleted.value?.id
  // The button that deleted is gone, and the focus with it.
  useEffect(() => {
    if (id) button.current?.focus()
  }, [id])
  return (
    <div class="undo" role="status">
      {deleted.value && (
        <p>
          <span>Deleted “{nameOf(deleted.value, 40)}”</span>
          <button ref={button} type="button" onClick={undo}>
            Undo
          </button>
        </p>
      )}
    </div>
  )
}

export function Spoken() {
  return (
    <p class="unseen" aria-live="polite">
      {spoken.value}
    </p>
  )
}
