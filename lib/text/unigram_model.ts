/** How much less than the rarest piece an unknown character scores. */
const unknownPenalty = 10

/**
 * A unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959): of all ways to write a word as pieces, the one whose
 * scores, the pieces' log probabilities, have the largest sum.
 */
export class UnigramModel {
  /** In the order of their code units, so that all pieces with one beginning stand together. */
  readonly #pieces: readonly string[]
  /** The id of each of them. */
  readonly #ids: Int32Array
  /** The score of each id. */
  readonly #scores: Float64Array
  readonly #unknown: number
  readonly #unknownScore: number

  /**
   * @param vocabulary pieces, which are not empty, and their scores; a piece's place is its id. Of equal pieces the last counts
   * @param unknown the id of a run of characters that no piece holds
   */
  constructor(vocabulary: readonly (readonly [piece: string, score: number])[], unknown: number) {
    const ids = new Map(vocabulary.map(([piece], id) => [piece, id]))
    this.#pieces = [...ids.keys()].sort()
    this.#ids = Int32Array.from(this.#pieces.map((piece) => ids.get(piece) as number))
    this.#scores = Float64Array.from(vocabulary.map(([, score]) => score))
    this.#unknown = unknown
    this.#unknownScore = this.#scores.reduce((least, score) => Math.min(least, score)) - unknownPenalty
  }

  /** The id of a piece. */
  id(piece: string): number | undefined {
    let found: number | undefined
    this.#forPieces(piece, 0, (index, end) => {
      if (end === piece.length) found = this.#ids[index]
    })
    return found
  }

  /**
   * The ids of a word's best pieces, by Viterbi's algorithm. Of two ways with the same sum, the one found first stays: the
   * one whose last piece is longer. Unknown characters that stand together are one id.
   */
  encode(word: string): number[] {
    // Of the best way to each position: the sum of its scores, and its last piece.
    const sums = new Float64Array(word.length + 1)
    const starts = new Int32Array(word.length + 1).fill(-1)
    const ids = new Int32Array(word.length + 1)
    const offer = (start: number, end: number, id: number, score: number) => {
      const sum = (sums[start] as number) + score
      if (starts[end] !== -1 && sum <= (sums[end] as number)) return
      sums[end] = sum
      starts[end] = start
      ids[end] = id
    }
    for (let start = 0, next: number; start < word.length; start = next) {
      next = start + ((word.codePointAt(start) as number) > 0xffff ? 2 : 1)
      let known = false // whether this character is a piece
      this.#forPieces(word, start, (index, end) => {
        known ||= end === next
        const id = this.#ids[index] as number
        offer(start, end, id, this.#scores[id] as number)
      })
      if (!known) offer(start, next, this.#unknown, this.#unknownScore)
    }

    const best: number[] = []
    for (let end = word.length, start: number; end > 0; end = start) {
      start = starts[end] as number
      if (ids[end] !== this.#unknown) {
        best.push(ids[end] as number)
        continue
      }
      while (start > 0 && ids[start] === this.#unknown) start = starts[start] as number
      // A run can be a piece that scores less than its characters do as unknown ones.
      best.push(this.id(word.slice(start, end)) ?? this.#unknown)
    }
    return best.reverse()
  }

  /** Calls `found` with the index and end of each piece that the text holds at `start`, the shortest first. */
  #forPieces(text: string, start: number, found: (index: number, end: number) => void): void {
    let low = 0
    let high = this.#pieces.length
    for (let end = start; end < text.length && low < high; ) {
      const unit = text.charCodeAt(end)
      low = this.#bound(low, high, end - start, unit)
      high = this.#bound(low, high, end - start, unit + 1)
      end++
      if (low < high && this.#pieces[low]?.length === end - start) found(low, end)
    }
  }

  /** The first piece from `low` to `high`, which are equal up to a position, whose code unit there is at least `unit`. */
  #bound(low: number, high: number, position: number, unit: number): number {
    while (low < high) {
      const middle = (low + high) >> 1
      // NaN where the piece ends: such a piece comes before all others, and is less than any unit.
      if ((this.#pieces[middle] as string).charCodeAt(position) >= unit) high = middle
      else low = middle + 1
    }
    return low
  }
}
