/** Words that stand for given ids wherever a text holds them; the longest that fits. */
export class FixedWords {
  readonly #ids: ReadonlyMap<string, readonly number[]>
  readonly #pattern: RegExp | undefined

  constructor(ids: ReadonlyMap<string, readonly number[]>) {
    const longestFirst = [...ids.keys()].sort((a, b) => b.length - a.length)
    const escaped = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'))
    this.#ids = ids
    this.#pattern = escaped.length > 0 ? new RegExp(`(${escaped.join('|')})`) : undefined
  }

  has(word: string): boolean {
    return this.#ids.has(word)
  }

  /** @param encode what lies between these words */
  encode(text: string, encode: (between: string) => readonly number[]): readonly number[] {
    if (!this.#pattern) return encode(text)
    return text.split(this.#pattern).flatMap((part) => this.#ids.get(part) ?? encode(part))
  }
}
