// All videos, newest first: those that form, those that are done, and those that failed.
import { signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { model } from './draft.ts'
import type { Video } from './protocol.ts'
import { make } from './submit.ts'
import { Tile } from './tile.tsx'
import { listed, loadMore, more, stream } from './videos.ts'

/** Prompts that the model `shapes` really draws. */
const prompts = ['a big red circle moving left', 'a small blue star moving up', 'a yellow triangle falling']

/** From so many videos on, there is a field to search in them. */
const searchFrom = 9

const search = signal('')

export function Stream() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean)
  const shown = stream.value.filter(({ prompt }) =>
    words.every((word) => prompt?.toLowerCase().includes(word)),
  )
  if (!listed.value) return null
  if (stream.value.length === 0) return <FirstVisit />
  return (
    <section aria-labelledby="videos-title">
      <div class="stream-top">
        <h2 id="videos-title">Videos</h2>
        {(stream.value.length >= searchFrom || more.value || search.value) && (
          <input
            type="search"
            aria-label="Search prompts"
            placeholder="Search prompts"
            value={search.value}
            onInput={(event) => {
              search.value = event.currentTarget.value
            }}
          />
        )}
      </div>
      <ul class="stream" style={{ '--ratio': commonRatio(shown) }}>
        {shown.map((video) => (
          <Tile key={video.id} video={video} />
        ))}
      </ul>
      {shown.length === 0 && <p class="quiet">No prompt has these words.</p>}
      {more.value && <End key={stream.value.length} />}
    </section>
  )
}

/** The shape of most videos, width / height: all tiles have it, so that the rows are even. */
function commonRatio(shown: readonly Video[]): string {
  const counts = new Map<string, number>()
  for (const { size } of shown) counts.set(size, (counts.get(size) ?? 0) + 1)
  const [most = '1x1'] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? []
  return most.replace('x', ' / ')
}

/** Loads older videos when it comes near the window. The button is there for who does not scroll. */
function End() {
  const place = useRef<HTMLButtonElement>(null)
  useEffect(() => {
    const seen = new IntersectionObserver(([entry]) => entry?.isIntersecting && loadMore(), {
      rootMargin: '600px',
    })
    if (place.current) seen.observe(place.current)
    return () => seen.disconnect()
  }, [])
  return (
    <button ref={place} type="button" class="plain end" onClick={loadMore}>
      Show older videos
    </button>
  )
}

function FirstVisit() {
  return (
    <section class="first" aria-labelledby="first-title">
      <h2 id="first-title">No videos yet</h2>
      {model.value?.id === 'shapes' ? (
        <>
          <p class="quiet">The model shapes draws one moving shape. Try one of these:</p>
          <ul>
            {prompts.map((prompt) => (
              <li key={prompt}>
                <button
                  type="button"
                  class="suggestion"
                  // The further clicks of a double click count from 2.
                  onClick={(event) => event.detail < 2 && make({ prompt, model: 'shapes' })}
                >
                  {prompt}
                </button>
              </li>
            ))}
          </ul>
        </>
      ) : (
        <p class="quiet">Describe one above.</p>
      )}
    </section>
  )
}
