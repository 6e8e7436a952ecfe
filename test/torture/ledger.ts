import { type Case, cases, parseCases } from './cases.js'

interface Row {
  tests: number
  failed: number
  tried: number
  skipped: string[]
}

/** What was tried of each case, and how it ended. */
export class Ledger {
  readonly #rows = new Map<Case, Row>()
  readonly #figures = new Map<string, number>()
  readonly #failures: string[] = []

  /** A test has ended. */
  told(names: readonly Case[], ending: { failed?: boolean; skipped?: string | undefined }): void {
    for (const name of names) {
      const row = this.#rows.get(name) ?? { tests: 0, failed: 0, tried: 0, skipped: [] }
      this.#rows.set(name, row)
      row.tests++
      row.tried++
      if (ending.failed) row.failed++
      if (ending.skipped !== undefined) row.skipped.push(ending.skipped)
    }
  }

  /** A test says how often it tried its cases: `[aborted-in-steps] faults injected: 7`. */
  said(message: string): void {
    const [, figure, times] = /^\[.*\] (.*): (\d+)$/.exec(message) ?? []
    if (figure === undefined) return
    this.count(figure, Number(times))
    if (figure === 'found clean afterwards') return
    for (const name of parseCases(message)) this.tried(name, Number(times) - 1)
  }

  tried(name: Case, more: number): void {
    const row = this.#rows.get(name)
    if (row) row.tried += more
  }

  count(figure: string, times: number): void {
    this.#figures.set(figure, (this.#figures.get(figure) ?? 0) + times)
  }

  fail(what: string): void {
    this.#failures.push(what)
  }

  /** Prints everything; returns whether all went well. `whole`: a case without a test is a failure. */
  print(whole: boolean): boolean {
    const line = (number: string, name: string, what: string, tried: string, result: string) =>
      console.log(
        `${number.padStart(4)}  ${name.padEnd(22)}${what.padEnd(44)}${tried.padStart(10)}  ${result}`,
      )
    line('', 'case', 'what', 'tried', 'result')
    let missing = 0
    for (const [at, name] of (Object.keys(cases) as Case[]).entries()) {
      const row = this.#rows.get(name)
      if (row === undefined) missing++
      line(String(at + 1), name, cases[name], row ? String(row.tried) : '', resultOf(row))
    }
    const figures = [...this.#figures].map(([figure, times]) => `${figure}: ${times}`)
    console.log(`\n${figures.join('\n')}\nfailed: ${this.#failures.length}`)
    for (const failure of this.#failures) console.log(`\n${failure}`)
    return this.#failures.length === 0 && !(whole && missing > 0)
  }
}

function resultOf(row: Row | undefined): string {
  if (row === undefined) return 'not run'
  if (row.failed > 0) return `${row.failed} of ${row.tests} tests FAILED`
  if (row.skipped.length === 0) return 'held'
  const reasons = [...new Set(row.skipped)].join('; ')
  return row.skipped.length === row.tests ? `skipped: ${reasons}` : `held; in part skipped: ${reasons}`
}
