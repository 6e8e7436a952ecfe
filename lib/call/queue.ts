import { unlessAborted } from '../abort.js'
import { TorchreelError } from '../errors.js'

/**
 * The calls of a pipeline. They start in the order in which they were made, however long each takes to get ready, and
 * only so many may be unfinished.
 */
export class Queue {
  readonly #limit: number
  #unfinished = 0
  /** Calls that get ready, or wait for one that does. */
  #waiting = 0
  /** Settled when all of them have started or failed. */
  #started: Promise<unknown> = Promise.resolve()

  /** @param limit calls that may wait or run */
  constructor(limit: number) {
    this.#limit = limit
  }

  /**
   * Starts a call in its turn: at once, if nothing is to be prepared and no call before it gets ready.
   *
   * @param prepare begins when the calls before have started; those after wait until it is done
   * @param start begins the call's job and returns its end
   * @throws TorchreelError `ERR_QUEUE_FULL`; `signal.reason` when it is aborted before its turn
   */
  async run<P, T>(
    prepare: (() => Promise<P>) | undefined,
    start: (prepared?: P) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    signal?.throwIfAborted()
    if (this.#unfinished >= this.#limit) {
      throw new TorchreelError('ERR_QUEUE_FULL', `${this.#limit} jobs of this pipeline are waiting already`)
    }
    this.#unfinished++
    try {
      return await (prepare || this.#waiting > 0 ? this.#inTurn(prepare, start, signal) : start())
    } finally {
      this.#unfinished--
    }
  }

  async #inTurn<P, T>(
    prepare: (() => Promise<P>) | undefined,
    start: (prepared?: P) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const before = this.#started
    let done = () => {}
    const turn = new Promise<void>((resolve) => {
      done = resolve
    })
    this.#started = Promise.all([before, turn])
    this.#waiting++
    try {
      await unlessAborted(before, signal)
      return start(await prepare?.()) // not awaited: the next may start
    } finally {
      this.#waiting--
      done()
    }
  }
}
