import type { DownloadProgress } from '../hub/hub.js'
import { megabytes } from './megabytes.js'

/** One line on a terminal that follows a download; silent where stderr is no terminal. */
export class TransferLine {
  readonly #stream: NodeJS.WriteStream
  readonly #visible: boolean
  #first: { bytes: number; time: number } | undefined

  constructor(stream: NodeJS.WriteStream, quiet: boolean) {
    this.#stream = stream
    this.#visible = stream.isTTY === true && !quiet
  }

  update({ file, bytes, totalBytes }: DownloadProgress): void {
    if (!this.#visible) return
    this.#first ??= { bytes, time: performance.now() }
    const seconds = (performance.now() - this.#first.time) / 1000
    const rate = seconds > 1 ? ` · ${megabytes((bytes - this.#first.bytes) / seconds)}/s` : ''
    const share = Math.floor((bytes / Math.max(1, totalBytes)) * 100)
    this.#stream.write(`\r\x1b[K${share}% of ${megabytes(totalBytes)}${rate} · ${file}`)
  }

  clear(): void {
    if (this.#visible) this.#stream.write('\r\x1b[K')
  }
}
