// What a screen reader hears, and the page's title: the start and the end of each video, and its progress every ten seconds.
import { signal } from '@preact/signals'
import { unfinished, type Video } from './protocol.ts'
import { watch } from './videos.ts'
import { nameOf, stateInWords, timeTaken } from './words.ts'

const secondsBetween = 10

export const spoken = signal('')

let last = 0

export function announce(): void {
  watch((video, before) => {
    const ended = !unfinished(video)
    if (ended && before && unfinished(before)) return tellEnd(video)
    if (ended || Date.now() - last < secondsBetween * 1000) return
    say(`${nameOf(video)}: ${stateInWords(video)}`)
  })
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) document.title = 'torchreel'
  })
}

function tellEnd(video: Video): void {
  const taken = timeTaken(video)
  const done = video.torchreel.state === 'completed'
  say(`${nameOf(video)}: ${stateInWords(video).toLowerCase()}${done && taken ? `, ${taken}` : ''}`)
  if (done && document.hidden) document.title = '▶ done · torchreel'
}

function say(sentence: string): void {
  last = Date.now()
  spoken.value = sentence
}
