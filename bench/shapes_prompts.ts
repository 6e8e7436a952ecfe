import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { judge } from '../test/support/shapes_judge.js'
import type { Clip, Sight } from '../test/support/shapes_world.js'
import { repository } from './processes.js'

export type Property = keyof Sight
export const properties = ['colour', 'background', 'motion', 'shape', 'size'] as const

/** The properties in a prompt. Null: the seed decides. */
export type ShapesPrompt = { readonly [Name in Property]: Sight[Name] | null } & {
  readonly prompt: string
  readonly heldOut: boolean
}

/** 240 prompts for `shapes`. The number of each is its seed. */
export async function shapesPrompts(): Promise<ShapesPrompt[]> {
  return JSON.parse(await readFile(path.join(repository, 'bench', 'shapes_prompts.json'), 'utf8'))
}

/** The video's value of each property in the prompt. */
export function judged(
  wish: ShapesPrompt,
  video: Clip,
): { property: Property; seen: string | undefined; right: boolean }[] {
  const sight = judge(video)
  return properties
    .filter((property) => wish[property] !== null)
    .map((property) => ({
      property,
      seen: sight[property],
      right: sight[property] === wish[property],
    }))
}
