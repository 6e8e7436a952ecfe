// One video in full: /#video_… opens it, so that links, reloading and the back button work.
import { signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { contentOf } from './api.ts'
import { CopyAs } from './copy.tsx'
import { remove } from './deletion.ts'
import { vary } from './draft.ts'
import { Facts } from './facts.tsx'
import { unfinished, type Video } from './protocol.ts'
import { again, canRepeat } from './submit.ts'
import { shapeOf } from './tile.tsx'
import { fetchVideo, hidden, listed, videos } from './videos.ts'
import { nameOf, stateInWords } from './words.ts'

const address = (): string => /^#(video_\w+)$/.exec(location.hash)?.[1] ?? ''

const opened = signal(address())
addEventListener('hashchange', () => {
  opened.value = address()
})

function close(): void {
  opened.value = ''
  history.replaceState(null, '', location.pathname)
}

export function OpenedVideo() {
  const id = opened.value
  const video = videos.value.get(id)
  const wanted = id !== '' && listed.value && !video
  useEffect(() => {
    if (wanted) fetchVideo(id).catch(close)
  }, [wanted, id])
  return video && !unfinished(video) && !hidden.value.has(id) ? <Dialog key={id} video={video} /> : null
}

function Dialog({ video }: { video: Video }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const { current } = dialog
    // `showModal` moves the focus into the dialog; closing gives it back to the link that opened it.
    current?.showModal()
    return () => current?.close()
  }, [])
  const leave = (then?: () => void) => {
    dialog.current?.close()
    close()
    then?.()
  }
  const { state } = video.torchreel
  return (
    <dialog
      ref={dialog}
      aria-labelledby="dialog-title"
      onClose={close}
      onClick={(event) => {
        if (event.target === dialog.current) leave()
      }}
      onKeyDown={(event) => {
        if (event.key === 'Escape') leave()
      }}
    >
      <div class="dialog">
        <div class="stage">
          {state === 'completed' ? <Player video={video} /> : <Trouble video={video} />}
        </div>
        <div class="side">
          <h2 id="dialog-title" class={(video.prompt?.length ?? 0) > 100 ? 'long' : undefined}>
            {video.prompt}
          </h2>
          <div class="actions">
            {state === 'completed' && (
              <a class="primary" href={`${contentOf(video.id)}?download`} download>
                Download
              </a>
            )}
            {canRepeat(video) && (
              <button type="button" onClick={() => leave(() => again(video))}>
                {state === 'completed' ? 'Again' : 'Try again'}
              </button>
            )}
            {state === 'completed' && (
              <button type="button" onClick={() => leave(() => startFrom(video))}>
                Vary
              </button>
            )}
            <button type="button" onClick={() => leave(() => remove(video))}>
              Delete
            </button>
          </div>
          <Facts video={video} />
          <CopyAs video={video} />
        </div>
        <button type="button" class="close" aria-label="Close" onClick={() => leave()}>
          <svg viewBox="0 0 16 16" aria-hidden="true">
            <path d="M3.5 3.5l9 9m0-9l-9 9" />
          </svg>
        </button>
      </div>
    </dialog>
  )
}

function Player({ video }: { video: Video }) {
  const moves = !matchMedia('(prefers-reduced-motion: reduce)').matches
  return (
    <video
      {...shapeOf(video)}
      src={contentOf(video.id)}
      poster={contentOf(video.id, 'thumbnail')}
      aria-label={nameOf(video, 200)}
      controls
      autoplay={moves}
      loop
      muted
      playsInline
    />
  )
}

function Trouble({ video }: { video: Video }) {
  const { error, torchreel } = video
  return (
    <div class="reason">
      <b class={torchreel.state}>{stateInWords(video)}</b>
      {torchreel.state === 'failed' && (
        <>
          <p>{error?.message}</p>
          <p class="quiet">
            <code>{error?.code}</code>
            {error?.code.startsWith('ERR_') && <>, explained in docs/troubleshooting.md</>}
          </p>
        </>
      )}
    </div>
  )
}

function startFrom(video: Video): void {
  vary(video)
  const box = document.getElementById('prompt')
  box?.focus()
  scrollTo({ top: 0 })
}
