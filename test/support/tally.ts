import type { TestContext } from 'node:test'

/** What is counted. */
export type Figure = 'faults injected' | 'bad inputs tried'

/** Says how often a case was tried, and under which figure that counts. */
export function tally(context: TestContext, cases: string, figure: Figure, times: number): void {
  context.diagnostic(`case ${cases}: ${figure}: ${times}`)
}
