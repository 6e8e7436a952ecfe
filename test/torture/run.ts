// npm run test:torture: all tests, those that take minutes too, with failures ordered in the core, sanitizers, fuzzers and a
// long run; then a table of the reliability cases by their numbers, and the figures. Ends with 1 if anything failed.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { run } from 'node:test'
import { repository } from '../support/fixtures.js'

/** Seconds of each fuzzer. */
const seconds = Number(process.env.FUZZ_SECONDS ?? 60)
process.env.PROPERTY_RUNS ??= '2000'

interface Row {
  tests: number
  failed: number
  /** What a test says it tried beyond itself. */
  tried: number
  title: string
}
const rows = new Map<number, Row>()
const figures = new Map<string, number>()
const failures: string[] = []
let tests = 0

function row(number: number, title: string): Row {
  const known = rows.get(number) ?? { tests: 0, failed: 0, tried: 0, title }
  rows.set(number, known)
  return known
}

/** "14, 15: aborted …" or "35–40: …" */
function casesOf(name: string): { numbers: number[]; title: string } {
  const [, list, title] = /^(\d+(?:(?:, |–)\d+)*): (.*)/s.exec(name) ?? []
  const numbers = (list ?? '').split(', ').flatMap((part) => {
    const [from, to] = part.split('–').map(Number) as [number, number | undefined]
    return from > 0 ? Array.from({ length: (to ?? from) - from + 1 }, (_, at) => from + at) : []
  })
  return { numbers, title: title ?? name }
}

function told(name: string, passed: boolean): void {
  const { numbers, title } = casesOf(name)
  for (const number of numbers) {
    const known = row(number, title)
    known.tests++
    if (!passed) known.failed++
  }
}

function add(figure: string, times: number): void {
  figures.set(figure, (figures.get(figure) ?? 0) + times)
}

// ---- node:test ------------------------------------------------------------------------------------------------------

async function runTests(files: string[]): Promise<void> {
  const suites: string[] = []
  for await (const { type, data } of run({ files, concurrency: 1 })) {
    if (type === 'test:start') suites[data.nesting] = data.name
    if (type === 'test:diagnostic') {
      const [, list, figure, times] = /^case ([\d, –]+): (.*): (\d+)$/.exec(data.message) ?? []
      if (figure === undefined) continue
      add(figure, Number(times))
      for (const number of casesOf(`${list}: `).numbers) row(number, figure).tried += Number(times)
    }
    if (type !== 'test:pass' && type !== 'test:fail') continue
    if (
      data.details.type === 'suite' ||
      (data.nesting === 0 && files.some((file) => data.name.endsWith(path.basename(file))))
    )
      continue
    tests++
    const own = casesOf(data.name).numbers.length > 0
    const name = own
      ? data.name
      : (suites.slice(0, data.nesting).findLast((suite) => casesOf(suite).numbers.length > 0) ?? data.name)
    told(name, type === 'test:pass')
    if (type === 'test:pass') continue
    failures.push(`${data.file}: ${data.name}\n${data.details.error.cause ?? data.details.error}`)
    console.log(`failed: ${data.name}`)
  }
}

// ---- programs -------------------------------------------------------------------------------------------------------

/** Runs a command; gives its output where it succeeds. */
function step(
  name: string,
  command: string,
  parameters: string[],
  environment: NodeJS.ProcessEnv = {},
): string | undefined {
  console.log(`${name} …`)
  const { status, stdout, stderr } = spawnSync(command, parameters, {
    ...{ cwd: repository, encoding: 'utf8', maxBuffer: 2 ** 28 },
    env: { ...process.env, ...environment },
  })
  if (status === 0) return stdout + stderr
  failures.push(`${name}: ${`${stdout}${stderr}`.slice(-4000)}`)
  return undefined
}

function sanitizers(): void {
  const built = step('the core with sanitizers is built', 'npm', ['run', 'build:sanitize'])
  const output =
    built !== undefined &&
    step(
      'the core’s tests under ASan and UBSan',
      'ctest',
      ['--test-dir', 'build/sanitize', '--output-on-failure'],
      {
        ASAN_OPTIONS: 'detect_leaks=0', // libtorch's own, at exit
      },
    )
  told('88: the core’s tests under ASan and UBSan', Boolean(output))
}

function fuzzers(): void {
  if (spawnSync('clang++', ['--version']).status !== 0) {
    console.log('no clang++: the fuzzers are not run')
    return
  }
  const built = step('the fuzzers are built', 'npm', ['run', 'build:fuzz'])
  for (const [subject, corpus] of [
    ['header', 'headers'],
    ['program', 'programs'],
  ] as const) {
    const found = `build/fuzz/${corpus}` // new inputs; those in the repository are only read
    mkdirSync(path.join(repository, found), { recursive: true })
    const output =
      built === undefined
        ? undefined
        : step(`the ${subject} fuzzer, ${seconds} s`, `build/fuzz/${subject}_fuzz`, [
            ...[found, `test/native/fuzz/${corpus}`, `-max_total_time=${seconds}`, '-max_len=4096'],
            ...['-timeout=10', '-print_final_stats=1'],
          ])
    const inputs = Number(/number_of_executed_units:\s*(\d+)/.exec(output ?? '')?.[1] ?? 0)
    told(`88: the ${subject} fuzzer`, inputs > 0)
    row(88, '').tried += inputs
    add('bad inputs tried', inputs)
  }
}

function soak(): void {
  const output = step('a long run', process.execPath, ['--expose-gc', 'build/test/torture/soak.js', '300'])
  console.log(output ?? '')
  const jobs = Number(/jobs run: (\d+)/.exec(output ?? '')?.[1] ?? 0)
  told('63: good, failing and aborted jobs leave nothing', output !== undefined)
  row(63, '').tried += jobs
  add('jobs run', jobs)
}

// ---- all of it ------------------------------------------------------------------------------------------------------

const notHere: Record<number, string> = {
  61: 'needs a GPU',
  86: 'see the tests of the package',
  87: 'see the tests of the package',
}
for (let number = 77; number <= 85; number++) notHere[number] = 'waits for a server'

step('the build that takes orders to fail', 'npm', ['run', 'build:faults'])
const folder = path.join(repository, 'build/test')
const testsOf = (where: string) =>
  readdirSync(where)
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => path.join(where, name))
await runTests([...testsOf(folder), ...testsOf(path.join(folder, 'torture'))])
told('35–42: the core’s own tests', step('the core’s tests', 'npm', ['run', 'test:native']) !== undefined)
sanitizers()
fuzzers()
soak()

console.log('\ncase  tried   result')
for (let number = 1; number <= 88; number++) {
  const known = rows.get(number)
  const result = known
    ? known.failed > 0
      ? `${known.failed} FAILED`
      : 'held'
    : (notHere[number] ?? 'no test')
  const tried = known ? String(Math.max(known.tests, known.tried)) : ''
  console.log(
    `${String(number).padStart(4)}${tried.padStart(9)}  ${result.padEnd(20)} ${known?.title ?? ''}`.trimEnd(),
  )
}
console.log(
  `\ntests: ${tests}; ${[...figures].map(([figure, times]) => `${figure}: ${times}`).join('; ')}; failed: ${failures.length}`,
)
for (const failure of failures) console.log(`\n${failure}`)
process.exitCode = failures.length > 0 ? 1 : 0
