import type { TestContext } from 'node:test'

/** The unit of the count. */
export type Figure = 'faults injected' | 'bad inputs tried' | 'jobs run' | 'found clean afterwards'

/** Reports how often a test tried its cases, which its name begins with, and the figure that this counts for. */
export function tally(context: TestContext, figure: Figure, times: number): void {
  const [cases] = context.name.split('] ')
  context.diagnostic(`${cases}] ${figure}: ${times}`)
}
