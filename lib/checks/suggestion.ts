/** diffusers' names of options that have another name here. */
const referenceNames: Readonly<Record<string, string>> = {
  num_inference_steps: 'steps',
  num_frames: 'frames',
  generator: 'seed',
  callback_on_step_end: 'onProgress',
  image: 'video',
  torch_dtype: 'dtype',
  cross_attention_kwargs: 'loras',
}

/** The name here of an option that diffusers calls otherwise. */
export function renamedOption(word: string): string | undefined {
  return Object.hasOwn(referenceNames, word) ? referenceNames[word] : undefined
}

/** `; did you mean "…"?` for a word that is close to a known one, or diffusers' name for it; else nothing. */
export function suggestion(word: string, known: readonly string[]): string {
  const renamed = renamedOption(word)
  if (renamed !== undefined && known.includes(renamed)) return `; did you mean "${renamed}"?`
  const best = nearest(word, known, Math.max(2, Math.floor(word.length / 3)))
  return best === undefined ? '' : `; did you mean "${best}"?`
}

/** The first of the known words that are fewest edits away, and at most `most`. */
export function nearest(word: string, known: readonly string[], most: number): string | undefined {
  let best: string | undefined
  let least = most + 1
  for (const candidate of known) {
    const edits = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (edits < least) {
      least = edits
      best = candidate
    }
  }
  return best
}

/** Insertions, deletions, replacements and swaps of two neighbours, from one word to the other. */
function editDistance(from: string, to: string): number {
  if (Math.abs(from.length - to.length) > 16 || from.length > 64) return 64
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  let before: number[] = []
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] as number) + (from[i - 1] === to[j - 1] ? 0 : 1)
      const isSwap = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]
      const swapped = isSwap ? (before[j - 2] as number) + 1 : Infinity
      next.push(Math.min(replaced, swapped, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    before = row
    row = next
  }
  return row[to.length] as number
}
