/** Marks the end of a word, so that "for" and the "for" in "forest" are two tokens. */
const endOfWord = '</w>'

/** One word; the text between words is dropped. */
const words =
  /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu

/** A printable character for each byte: its own in Latin-1, else one from U+0100 on. */
const alphabet: readonly string[] = (() => {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const character = String.fromCharCode(byte)
    return /[!-~¡-¬®-ÿ]/.test(character) ? character : String.fromCharCode(next++)
  })
})()

/**
 * CLIP's byte-pair encoding (https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py): a word begins as its
 * UTF-8 bytes; the adjacent pair with the lowest rank is merged, again and again, until no pair has a rank.
 */
export class BytePairEncoding {
  readonly #ids: Readonly<Record<string, number>>
  readonly #ranks: ReadonlyMap<string, number>
  readonly #unknown: number

  /**
   * @param ids of tokens, by their text
   * @param ranks of merges, by both parts with a space between them
   * @param unknown the id of text that is not a token
   */
  constructor(ids: Record<string, number>, ranks: ReadonlyMap<string, number>, unknown: number) {
    this.#ids = Object.setPrototypeOf(ids, null) // so that "constructor" is no token
    this.#ranks = ranks
    this.#unknown = unknown
  }

  knows(token: string): boolean {
    return this.#ids[token] !== undefined
  }

  encode(text: string): number[] {
    const found = text.match(words) ?? []
    return found.flatMap((word) => this.#merged(word).map((part) => this.#ids[part] ?? this.#unknown))
  }

  /** The parts of a word. A pass merges all pairs of one rank, so that long words need few passes. */
  #merged(word: string): string[] {
    const parts = Array.from(Buffer.from(word), (byte) => alphabet[byte] as string)
    parts[parts.length - 1] += endOfWord
    // The rank of a part with the part before it.
    const rank = (at: number) => this.#ranks.get(`${parts[at - 1]} ${parts[at]}`) ?? Infinity
    const ranks = parts.map((_, at) => (at === 0 ? Infinity : rank(at)))
    for (;;) {
      const lowest = ranks.reduce((least, one) => Math.min(least, one), Infinity)
      if (lowest === Infinity) return parts
      let count = 0
      let changed = false // the part before was merged
      for (let at = 0; at < parts.length; at++) {
        const merge = ranks[at + 1] === lowest
        ranks[count] = ranks[at] as number
        parts[count] = merge ? `${parts[at]}${parts[at + 1]}` : (parts[at] as string)
        if (count > 0 && (merge || changed)) ranks[count] = rank(count)
        changed = merge
        count++
        if (merge) at++
      }
      parts.length = count
      ranks.length = count
    }
  }
}
