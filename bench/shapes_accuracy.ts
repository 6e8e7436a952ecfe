/**
 * Measures how often the videos of `shapes` match their prompts. Uses every prompt of shapes_prompts.json once, with its number
 * as the seed; test/support/shapes_judge.ts judges. Prints a table for the model card, and each failure.
 *
 *     npx tsc -p bench && node build/bench/shapes_accuracy.js [--model models/shapes] [--steps N] [--frames N]
 *         [--guidance N] [--dtype float32|bfloat16] [--every N --from M]
 */
import path from 'node:path'
import { parseArgs } from 'node:util'
import { TextToVideoPipeline } from 'torchreel'
import { repository } from './processes.js'
import { judged, properties, shapesPrompts } from './shapes_prompts.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: path.join(repository, 'models', 'shapes') },
    every: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    steps: { type: 'string' },
    frames: { type: 'string' },
    guidance: { type: 'string' },
    dtype: { type: 'string', default: 'auto' },
    trustGraph: { type: 'boolean', default: false },
  },
})
const options = {
  ...(values.steps ? { steps: Number(values.steps) } : {}),
  ...(values.frames ? { frames: Number(values.frames) } : {}),
  ...(values.guidance ? { guidanceScale: Number(values.guidance) } : {}),
}

const counts = new Map<string, { right: number; said: number }>()
await using pipeline = await TextToVideoPipeline.fromPretrained(values.model, {
  dtype: values.dtype as 'auto' | 'float32' | 'bfloat16',
  trustGraph: values.trustGraph,
})
for (const [index, wish] of (await shapesPrompts()).entries()) {
  if (index % Number(values.every) !== Number(values.from)) continue
  const video = await pipeline.generate(wish.prompt, { ...options, seed: index })
  for (const { property, seen, right } of judged(wish, video)) {
    for (const group of wish.heldOut ? ['all', 'held out'] : ['all']) {
      const row = counts.get(`${group} ${property}`) ?? { right: 0, said: 0 }
      counts.set(`${group} ${property}`, { right: row.right + Number(right), said: row.said + 1 })
    }
    if (!right) {
      console.log(`${index}: "${wish.prompt}": ${property} ${seen ?? 'none'}, not ${wish[property]}`)
    }
  }
}

const cell = (name: string) => {
  const { right, said } = counts.get(name) ?? { right: 0, said: 0 }
  return said > 0 ? `${((100 * right) / said).toFixed(1)}% (${right} of ${said})` : '—'
}
console.log('\n| | all prompts | held-out combinations |\n|---|---|---|')
for (const property of properties) {
  console.log(`| ${property} | ${cell(`all ${property}`)} | ${cell(`held out ${property}`)} |`)
}
