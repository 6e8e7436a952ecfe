import type { TestContext } from 'node:test'

/** What the torture run counts. */
export type Figure = 'faults injected' | 'bad inputs tried' | 'jobs run'

/** Tells the torture run's table how often a case was tried, and under which figure that counts. */
export function tally(context: TestContext, cases: string, figure: Figure, times: number): void {
  context.diagnostic(`case ${cases}: ${figure}: ${times}`)
}
