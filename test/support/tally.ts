import type { TestContext } from 'node:test'

/** What is counted. */
export type Figure = 'faults injected' | 'bad inputs tried' | 'jobs run' | 'found clean afterwards'

/** Reports how often a test, whose name begins with its cases, tried them, and under which figure that counts. */
export function tally(context: TestContext, figure: Figure, times: number): void {
  const [cases] = context.name.split('] ')
  context.diagnostic(`${cases}] ${figure}: ${times}`)
}
