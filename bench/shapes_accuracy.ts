/**
 * Measures how often `shapes` draws what a prompt says: every prompt of shapes_prompts.json once, its number the seed,
 * judged by test/support/shapes_judge.ts. Prints a table for the model card, and each prompt that went wrong.
 *
 *     npx tsc -p bench && node build/bench/shapes_accuracy.js [--model models/shapes] [--steps N] [--frames N]
 *         [--guidance N] [--every N --from M]
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { TextToVideoPipeline } from 'torchreel'
import { judge } from '../test/support/shapes_judge.js'
import type { Sight } from '../test/support/shapes_world.js'

type Property = keyof Sight
/** What a prompt says, null where it leaves a property to the seed. */
type Prompt = { readonly [Name in Property]: Sight[Name] | null } & {
  readonly prompt: string
  readonly heldOut: boolean
}

const properties = ['colour', 'background', 'motion', 'shape', 'size'] as const
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..')

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: path.join(root, 'models', 'shapes') },
    every: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    steps: { type: 'string' },
    frames: { type: 'string' },
    guidance: { type: 'string' },
    trustGraph: { type: 'boolean', default: false },
  },
})
const options = {
  ...(values.steps ? { steps: Number(values.steps) } : {}),
  ...(values.frames ? { frames: Number(values.frames) } : {}),
  ...(values.guidance ? { guidanceScale: Number(values.guidance) } : {}),
}

const all = JSON.parse(await readFile(path.join(root, 'bench', 'shapes_prompts.json'), 'utf8')) as Prompt[]
const counts = new Map<string, { right: number; said: number }>()
await using pipeline = await TextToVideoPipeline.fromPretrained(values.model, {
  trustGraph: values.trustGraph,
})
for (const [index, wish] of all.entries()) {
  if (index % Number(values.every) !== Number(values.from)) continue
  const video = await pipeline.generate(wish.prompt, { ...options, seed: index })
  const seen = judge(video)
  const wrong = properties.filter((property) => !count(wish, property, seen[property]))
  for (const property of wrong) {
    console.log(`${index}: "${wish.prompt}": ${property} ${seen[property] ?? 'none'}, not ${wish[property]}`)
  }
}

/** Whether the property is as the prompt says, or is not said. */
function count(wish: Prompt, property: Property, seen: string | undefined): boolean {
  const said = wish[property]
  if (said === null) return true
  for (const group of wish.heldOut ? ['all', 'held out'] : ['all']) {
    const row = counts.get(`${group} ${property}`) ?? { right: 0, said: 0 }
    row.said++
    if (seen === said) row.right++
    counts.set(`${group} ${property}`, row)
  }
  return seen === said
}

const cell = (name: string) => {
  const { right, said } = counts.get(name) ?? { right: 0, said: 0 }
  return said > 0 ? `${((100 * right) / said).toFixed(1)}% (${right} of ${said})` : '—'
}
console.log('\n| | all prompts | held-out combinations |\n|---|---|---|')
for (const property of properties) {
  console.log(`| ${property} | ${cell(`all ${property}`)} | ${cell(`held out ${property}`)} |`)
}
