// npm run test:torture [-- PART …]: all tests, those that take minutes too, with failures ordered in the core; sanitizers;
// fuzzers; a long run. Then a table of what can go wrong by its numbers, and the figures. Ends with 1 if anything failed.
import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { run } from 'node:test'
import { repository } from '../support/fixtures.js'
import { casesOf, Ledger } from './ledger.js'

const parts = {
  tests: async () => {
    for (const shelf of shelves()) await runTests(testsIn(`build/test/${shelf}`))
  },
  torture: async () => {
    step('a build that takes orders to fail', 'npm', ['run', 'build:faults'])
    await runTests(testsIn('build/test/torture'))
  },
  core: () => {
    const held = step('the core’s tests', 'npm', ['run', 'test:native']) !== undefined
    ledger.told(casesOf('34–42: '), { failed: !held })
    const refused = step(
      'every allocation of a device refused',
      'build/cmake/test/native/device_test',
      ['test/fixtures', 'refused memory'],
      { TORCHREEL_TEST_EVERY_ALLOCATION: '1' },
    )
    ledger.told(casesOf('61: '), { failed: refused === undefined })
  },
  sanitizers: () => {
    sanitized('address', 'ASan and UBSan')
    sanitized('thread', 'TSan')
  },
  fuzzers: () => {
    step('the fuzzers are built', 'npm', ['run', 'build:fuzz'])
    fuzzed('header', 'headers')
    fuzzed('program', 'programs')
  },
  soak,
}

/** Seconds of each fuzzer. */
process.env.FUZZ_SECONDS ??= '60'
process.env.PROPERTY_RUNS ??= '1000'

const ledger = new Ledger()
const started = performance.now()

function say(what: string): void {
  const minutes = (performance.now() - started) / 60_000
  console.log(`${minutes.toFixed(1).padStart(5)} min  ${what}`)
}

/** Runs a command; gives its output where it succeeds. */
function step(
  name: string,
  command: string,
  parameters: string[],
  environment: NodeJS.ProcessEnv = {},
): string | undefined {
  say(name)
  const { status, signal, stdout, stderr } = spawnSync(command, parameters, {
    ...{ cwd: repository, encoding: 'utf8', maxBuffer: 2 ** 28 },
    env: { ...process.env, ...environment },
  })
  if (status === 0) return stdout + stderr
  say(`${name}: FAILED`)
  ledger.fail(`${name}: ${status ?? signal}\n${`${stdout}${stderr}`.slice(-4000)}`)
  return undefined
}

function shelves(): string[] {
  const folders = readdirSync(path.join(repository, 'build/test'), { withFileTypes: true })
  return folders.filter((entry) => entry.isDirectory() && entry.name !== 'torture').map(({ name }) => name)
}

function testsIn(folder: string): string[] {
  const names = readdirSync(path.join(repository, folder)).filter((name) => name.endsWith('.test.js'))
  return names.sort().map((name) => path.join(repository, folder, name))
}

/** A test without a number belongs to the cases of its suite. */
async function runTests(files: string[]): Promise<void> {
  for (const file of files) {
    say(path.basename(file))
    const names: string[] = []
    for await (const { type, data } of run({ files: [file] })) {
      if (type === 'test:start') names[data.nesting] = data.name
      if (type === 'test:diagnostic') ledger.said(data.message)
      if (type !== 'test:pass' && type !== 'test:fail') continue
      const failed = type === 'test:fail'
      if (failed) {
        const { cause } = data.details.error
        const detail = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
        ledger.fail(`${path.basename(file)}: ${data.name}\n${detail}`)
        say(`FAILED: ${data.name}`)
      }
      if (data.details.type === 'suite') continue
      const numbered = [data.name, ...names.slice(0, data.nesting).reverse()].find(
        (name) => casesOf(name).length > 0,
      )
      if (numbered === undefined) continue
      const skipped = data.skip === undefined ? undefined : String(data.skip)
      ledger.told(casesOf(numbered), { failed, skipped })
    }
  }
}

/** The core's own tests, compiled with sanitizers; libtorch is as it comes. */
function sanitized(kind: 'address' | 'thread', name: string): void {
  const script = kind === 'address' ? 'build:sanitize' : 'build:sanitize:thread'
  const built = step(`the core with ${name} is built`, 'npm', ['run', script])
  const output =
    built === undefined
      ? undefined
      : step(`the core’s tests under ${name}`, 'npm', ['run', script.replace('build', 'test')])
  ledger.told([88], { failed: output === undefined })
}

/** libFuzzer; what it finds stays in build/fuzz, the corpus in the repository is only read. */
function fuzzed(subject: string, corpus: string): void {
  const seconds = Number(process.env.FUZZ_SECONDS)
  const own = `build/fuzz/${corpus}`
  cpSync(path.join(repository, `test/native/fuzz/${corpus}`), path.join(repository, own), { recursive: true })
  const output = step(`the ${subject} fuzzer, ${seconds} s`, `build/fuzz/${subject}_fuzz`, [
    ...[own, `-artifact_prefix=build/fuzz/${subject}-`, `-max_total_time=${seconds}`],
    ...['-max_len=4096', '-timeout=10', '-print_final_stats=1'],
  ])
  const inputs = Number(/number_of_executed_units:\s*(\d+)/.exec(output ?? '')?.[1] ?? 0)
  ledger.told([88], { failed: inputs === 0 })
  ledger.tried(88, Math.max(0, inputs - 1))
  ledger.count('bad inputs tried', inputs)
}

function soak(): void {
  const output = step('a long run', process.execPath, ['--expose-gc', 'build/test/torture/soak.js', '300'])
  console.log(output ?? '')
  const jobs = Number(/jobs run: (\d+)/.exec(output ?? '')?.[1] ?? 0)
  ledger.told([63], { failed: output === undefined })
  ledger.tried(63, Math.max(0, jobs - 1))
  ledger.count('jobs run', jobs)
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !(name in parts))
if (unknown.length > 0) throw new Error(`no part ${unknown}; there are ${Object.keys(parts).join(', ')}`)
for (const [name, work] of Object.entries(parts)) {
  if (wanted.length === 0 || wanted.includes(name)) await work()
}
say('done\n')
if (!ledger.print(wanted.length === 0)) process.exitCode = 1
