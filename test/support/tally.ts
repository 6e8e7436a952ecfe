import type { TestContext } from 'node:test'

/** What is counted. */
export type Figure = 'faults injected' | 'bad inputs tried' | 'jobs run' | 'found clean afterwards'

/** Says how often a test, whose name begins with its cases' numbers, tried them, and under which figure that counts. */
export function tally(context: TestContext, figure: Figure, times: number): void {
  const [cases] = context.name.split(':')
  context.diagnostic(`case ${cases}: ${figure}: ${times}`)
}
