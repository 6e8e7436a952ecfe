// One video in the stream: it waits, forms, plays, or says why it did not.
import { useRef } from 'preact/hooks'
import { contentOf, post, request } from './api.ts'
import { remove } from './deletion.ts'
import type { Video } from './protocol.ts'
import { again, canRepeat } from './submit.ts'
import { notice, put } from './videos.ts'
import { nameOf, stateInWords, timeLeft } from './words.ts'

export function Tile({ video }: { video: Video }) {
  const { state } = video.torchreel
  return (
    <li class="tile" id={`tile-${video.id}`} data-state={state}>
      {state === 'completed' ? (
        <Moving video={video} />
      ) : state === 'failed' || state === 'cancelled' ? (
        <Ended video={video} />
      ) : (
        <Forming video={video} />
      )}
    </li>
  )
}

/** Width and height in pixels, for the shape of the picture before it is there. */
export function shapeOf({ size }: Video): { width: number; height: number } {
  const [width = 1, height = 1] = size.split('x').map(Number)
  return { width, height }
}

const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches

function Moving({ video }: { video: Video }) {
  const player = useRef<HTMLVideoElement>(null)
  const play = () => {
    if (!still()) player.current?.play().catch(() => {})
  }
  const stop = () => {
    player.current?.pause()
  }
  return (
    <a
      class="picture"
      href={`#${video.id}`}
      onPointerEnter={play}
      onPointerLeave={stop}
      onFocus={play}
      onBlur={stop}
    >
      <video
        ref={player}
        {...shapeOf(video)}
        src={contentOf(video.id)}
        poster={contentOf(video.id, 'thumbnail')}
        preload="none"
        muted
        loop
        playsInline
        disablePictureInPicture
        tabIndex={-1}
        aria-hidden="true"
      />
      <span class="prompt">{nameOf(video, 90)}</span>
    </a>
  )
}

function Forming({ video }: { video: Video }) {
  const { preview, state } = video.torchreel
  const words = stateInWords(video)
  const left = timeLeft(video)
  return (
    <>
      <div class="picture forming">
        {preview ? (
          <>
            <Preview video={video} src={preview} />
            <span class="mark">Preview</span>
          </>
        ) : (
          <Blank video={video} />
        )}
      </div>
      {state !== 'queued' && (
        <progress max={100} value={video.progress} aria-label={`Progress of ${nameOf(video)}`} />
      )}
      <p class="prompt">{nameOf(video, 90)}</p>
      <p class="state">
        <span>
          {words} {state === 'running' && <span class="left">{left}</span>}
        </span>
        <button
          type="button"
          class="plain"
          disabled={state === 'cancelling'}
          aria-label={`Cancel ${nameOf(video)}`}
          onClick={() => cancel(video)}
        >
          Cancel
        </button>
      </p>
    </>
  )
}

/** The latents as small frames that move, or the first of them for who wants no motion. */
function Preview({ video, src }: { video: Video; src: string }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  if (!still()) return <img class="preview" {...shapeOf(video)} src={src} alt="" />
  return (
    <>
      <canvas ref={canvas} class="preview" {...shapeOf(video)} />
      <img
        hidden
        src={src}
        alt=""
        onLoad={({ currentTarget }) => {
          const { width = 1, height = 1 } = canvas.current ?? {}
          canvas.current?.getContext('2d')?.drawImage(currentTarget, 0, 0, width, height)
        }}
      />
    </>
  )
}

/** A frame of the video's shape without a picture. */
function Blank({ video }: { video: Video }) {
  const { width, height } = shapeOf(video)
  return <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true" />
}

function Ended({ video }: { video: Video }) {
  const failed = video.torchreel.state === 'failed'
  return (
    <>
      <a class="picture message" href={`#${video.id}`}>
        <Blank video={video} />
        <span class="reason">
          <b>{stateInWords(video)}</b>
          {failed && <span>{video.error?.message}</span>}
        </span>
        <span class="unseen">{nameOf(video)}</span>
      </a>
      <p class="prompt">{nameOf(video, 90)}</p>
      <p class="state">
        {canRepeat(video) && (
          <button
            type="button"
            class="plain"
            aria-label={`Try again: ${nameOf(video)}`}
            onClick={() => again(video)}
          >
            Try again
          </button>
        )}
        <button
          type="button"
          class="plain"
          aria-label={`Delete ${nameOf(video)}`}
          onClick={() => remove(video)}
        >
          Delete
        </button>
      </p>
    </>
  )
}

async function cancel(video: Video): Promise<void> {
  try {
    put(await post<Video>(`/v1/videos/${video.id}/cancel`, {}))
    keepFocus(video)
  } catch (error) {
    notice(error)
    // It may be gone, or done.
    await request<Video>(`/v1/videos/${video.id}`).then(put, () => {})
  }
}

/** The button that had the focus may be gone: its tile's next one takes it. */
function keepFocus({ id }: Video): void {
  requestAnimationFrame(() => {
    if (document.activeElement !== document.body) return
    document.querySelector<HTMLElement>(`#tile-${id} button:enabled`)?.focus()
  })
}
