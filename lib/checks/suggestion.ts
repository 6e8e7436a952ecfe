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

/** `; did you mean "…"?` for a word that is close to a known one, or diffusers' name for it; else nothing. */
export function suggestion(word: string, known: readonly string[]): string {
  const renamed = Object.hasOwn(referenceNames, word) ? referenceNames[word] : undefined
  if (renamed !== undefined && known.includes(renamed)) return `; did you mean "${renamed}"?`
  let best: string | undefined
  let least = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const edits = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (edits < least) {
      least = edits
      best = candidate
    }
  }
  return best === undefined ? '' : `; did you mean "${best}"?`
}

/** Levenshtein's: insertions, deletions and replacements from one word to the other. */
function editDistance(from: string, to: string): number {
  if (Math.abs(from.length - to.length) > 16 || from.length > 64) return 64
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] as number) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[to.length] as number
}
