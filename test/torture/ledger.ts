import { cases, untested } from './cases.js'

interface Row {
  tests: number
  failed: number
  tried: number
  skipped: string[]
}

/** The numbers that a test's name begins with: "14, 15: aborted …", "35–40: …". */
export function casesOf(name: string): number[] {
  const [, list] = /^(\d+(?:(?:, |–)\d+)*): /.exec(name) ?? []
  return (list ?? '').split(', ').flatMap((part) => {
    const [from = 0, to = from] = part.split('–').map(Number)
    return from > 0 ? Array.from({ length: to - from + 1 }, (_, at) => from + at) : []
  })
}

/** What was tried of each case, and how it ended. */
export class Ledger {
  readonly #rows = new Map<number, Row>()
  readonly #figures = new Map<string, number>()
  readonly #failures: string[] = []

  /** A test has ended. */
  told(numbers: readonly number[], ending: { failed?: boolean; skipped?: string | undefined }): void {
    for (const number of numbers) {
      const row = this.#rows.get(number) ?? { tests: 0, failed: 0, tried: 0, skipped: [] }
      this.#rows.set(number, row)
      row.tests++
      row.tried++
      if (ending.failed) row.failed++
      if (ending.skipped !== undefined) row.skipped.push(ending.skipped)
    }
  }

  /** A test says that it tried its case so often: `case 14, 15: faults injected: 7`. */
  said(message: string): void {
    const [, list, figure, times] = /^case ([\d, –]+): (.*): (\d+)$/.exec(message) ?? []
    if (figure === undefined) return
    this.count(figure, Number(times))
    if (figure === 'found clean afterwards') return
    for (const number of casesOf(`${list}: `)) this.tried(number, Number(times) - 1)
  }

  tried(number: number, more: number): void {
    const row = this.#rows.get(number)
    if (row) row.tried += more
  }

  count(figure: string, times: number): void {
    this.#figures.set(figure, (this.#figures.get(figure) ?? 0) + times)
  }

  fail(what: string): void {
    this.#failures.push(what)
  }

  /** Prints everything; gives whether all went well. `whole`: a case without a test is a failure. */
  print(whole: boolean): boolean {
    const line = (number: string, what: string, tried: string, result: string) =>
      console.log(`${number.padStart(4)}  ${what.padEnd(44)}${tried.padStart(10)}  ${result}`)
    line('case', 'what', 'tried', 'result')
    let missing = 0
    for (const [number, what] of cases.entries()) {
      if (number === 0) continue
      const row = this.#rows.get(number)
      if (row === undefined && !untested.has(number)) missing++
      line(String(number), what, row ? String(row.tried) : '', resultOf(number, row))
    }
    const figures = [...this.#figures].map(([figure, times]) => `${figure}: ${times}`)
    console.log(`\n${figures.join('\n')}\nfailed: ${this.#failures.length}`)
    for (const failure of this.#failures) console.log(`\n${failure}`)
    return this.#failures.length === 0 && !(whole && missing > 0)
  }
}

function resultOf(number: number, row: Row | undefined): string {
  if (row === undefined) return untested.get(number) ?? 'not run'
  if (row.failed > 0) return `${row.failed} of ${row.tests} tests FAILED`
  if (row.skipped.length === 0) return 'held'
  const reasons = [...new Set(row.skipped)].join('; ')
  return row.skipped.length === row.tests ? `skipped: ${reasons}` : `held; in part skipped: ${reasons}`
}
