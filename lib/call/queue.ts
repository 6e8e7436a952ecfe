import { unlessAborted } from '../abort.js'
import { TorchreelError } from '../errors.js'

/** A call in the queue. */
interface Turn<Prepared, Result> {
  /** Begins when the calls before have started; those after wait until it is done. Without it the call starts at once. */
  readonly prepare?: (() => Promise<Prepared>) | undefined
  /** Begins the call's job and returns its end. */
  readonly start: (prepared: Prepared) => Promise<Result>
  readonly signal?: AbortSignal | undefined
}

/** A call with nothing to prepare. */
type ReadyTurn<Result> = Omit<Turn<undefined, Result>, 'prepare'>

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
   * @throws TorchreelError `ERR_QUEUE_FULL`; `signal.reason` when it is aborted before its turn
   */
  run<Result>(turn: ReadyTurn<Result>): Promise<Result>
  run<Prepared, Result>(turn: Turn<Prepared, Result>): Promise<Result>
  async run<Prepared, Result>(turn: Turn<Prepared | undefined, Result>): Promise<Result> {
    turn.signal?.throwIfAborted()
    if (this.#unfinished >= this.#limit) {
      throw new TorchreelError('ERR_QUEUE_FULL', `${this.#limit} jobs of this pipeline are waiting already`)
    }
    this.#unfinished++
    try {
      return await (turn.prepare || this.#waiting > 0 ? this.#inTurn(turn) : turn.start(undefined))
    } finally {
      this.#unfinished--
    }
  }

  /** Does work that no call may overtake: calls made before it start first, calls made after it wait until it is done. */
  exclusive<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.run({ prepare: work, start: async (result: Result) => result })
  }

  async #inTurn<Prepared, Result>({
    prepare,
    start,
    signal,
  }: Turn<Prepared | undefined, Result>): Promise<Result> {
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
