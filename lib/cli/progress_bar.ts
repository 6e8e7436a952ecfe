import type { Progress } from '../progress.js'
import { megabytes } from './megabytes.js'

const width = 24

const words: Record<Progress['stage'], string> = {
  download: 'downloading',
  encode: 'reading the prompt',
  denoise: 'denoising',
  decode: 'decoding frames',
}

/** One line on a terminal that follows a job; silent where stderr is no terminal. */
export class ProgressBar {
  readonly #stream: NodeJS.WriteStream
  readonly #visible: boolean

  constructor(stream: NodeJS.WriteStream, quiet: boolean) {
    this.#stream = stream
    this.#visible = stream.isTTY === true && !quiet
  }

  update({ stage, step, steps, etaMs }: Progress): void {
    if (!this.#visible) return
    const done = Math.round((step / Math.max(1, steps)) * width)
    const count = stage === 'download' ? `${megabytes(step)} of ${megabytes(steps)}` : `${step}/${steps}`
    const left = etaMs === undefined || step === steps ? '' : ` · ${clock(etaMs)} left`
    const bar = '█'.repeat(done) + '░'.repeat(width - done)
    this.#stream.write(`\r\x1b[K${bar} ${words[stage]} ${count}${left}`)
  }

  clear(): void {
    if (this.#visible) this.#stream.write('\r\x1b[K')
  }
}

/** m:ss */
function clock(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
