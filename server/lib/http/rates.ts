import { tooMany } from '../errors.js'

/** A bucket of tokens for each owner, filled at a steady rate. */
export class Rates {
  readonly #perMinute: number
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  constructor(perMinute: number) {
    this.#perMinute = perMinute
  }

  /** @throws ApiError 429 with the time until there is a token again */
  take(owner: string): void {
    const now = performance.now()
    const perMs = this.#perMinute / 60_000
    const bucket = this.#buckets.get(owner) ?? { tokens: this.#perMinute, at: now }
    const tokens = Math.min(this.#perMinute, bucket.tokens + (now - bucket.at) * perMs)
    if (tokens < 1) {
      const after = (1 - tokens) / perMs
      throw tooMany(`a key may ask for ${this.#perMinute} videos in a minute`, 'rate_limit_exceeded', after)
    }
    this.#buckets.set(owner, { tokens: tokens - 1, at: now })
  }
}

/** Counts what is open, of each owner and in all. */
export class Open {
  readonly #counts = new Map<string, number>()
  #all = 0

  constructor(
    readonly what: string,
    readonly ofOne: number,
    readonly ofAll: number,
  ) {}

  get all(): number {
    return this.#all
  }

  /** @returns closes it; @throws ApiError 429 */
  enter(owner: string): () => void {
    const count = this.#counts.get(owner) ?? 0
    if (count >= this.ofOne)
      throw tooMany(`a key may have ${this.ofOne} ${this.what}`, 'too_many_open', 5_000)
    if (this.#all >= this.ofAll)
      throw tooMany(`the server has ${this.ofAll} ${this.what}`, 'too_many_open', 5_000)
    this.#counts.set(owner, count + 1)
    this.#all++
    let isOpen = true
    return () => {
      if (!isOpen) return
      isOpen = false
      this.#all--
      const left = (this.#counts.get(owner) ?? 1) - 1
      if (left > 0) this.#counts.set(owner, left)
      else this.#counts.delete(owner)
    }
  }
}
