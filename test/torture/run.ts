// npm run test:torture [-- PART …]: all tests, including those that take minutes, with failures ordered in the core; the
// server's tests; sanitizers; fuzzers; a long run. Then prints a table of what can go wrong (cases.ts) and the figures. Exit code 1 if anything failed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { run } from 'node:test'
import { repository } from '../support/fixtures.js'
import { type Case, parseCases } from './cases.js'
import { Ledger } from './ledger.js'

/** What the core's own tests try. */
const coreCases: Case[] = [
  ...([
    'tiny-weights',
    'header-length',
    'header-json',
    'header-offsets',
    'header-shapes',
    'header-names',
  ] as const),
  ...(['header-integers', 'cut-files', 'flipped-bits'] as const),
]

const parts = {
  tests: async () => {
    for (const shelf of shelves()) await runTests(testsIn(`build/test/${shelf}`))
  },
  torture: async () => {
    await step('a build that takes orders to fail', 'npm', ['run', 'build:faults'])
    await runTests(testsIn('build/test/torture'))
  },
  server: async () => {
    for (const script of ['build', 'build:test'])
      await step(`the server: ${script}`, 'npm', ['run', script, '--workspace', 'server'])
    await runTests(testsIn('build/server-test'))
  },
  core: async () => {
    const held = (await step('the core’s tests', 'npm', ['run', 'test:native'])) !== undefined
    ledger.told(coreCases, { failed: !held })
  },
  device,
  sanitizers: async () => {
    await sanitized('address', 'ASan and UBSan')
    await sanitized('thread', 'TSan')
  },
  fuzzers: async () => {
    await step('the fuzzers are built', 'npm', ['run', 'build:fuzz'])
    await fuzzed('header', 'headers')
    await fuzzed('program', 'programs')
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
async function step(
  name: string,
  command: string,
  parameters: string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<string | undefined> {
  say(name)
  const child = spawn(command, parameters, {
    ...{ cwd: repository, stdio: ['ignore', 'pipe', 'pipe'] as const },
    env: { ...process.env, ...environment },
  })
  const ended = once(child, 'close').catch((error: Error) => [error.message]) // it cannot be started
  const [stdout, stderr, [status, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    ended,
  ])
  if (status === 0) return stdout + stderr
  say(`${name}: FAILED`)
  ledger.fail(`${name}: ${status ?? signal}\n${(stdout + stderr).slice(-4000)}`)
  return undefined
}

function shelves(): string[] {
  const folders = readdirSync(path.join(repository, 'build/test'), { withFileTypes: true })
  return folders.filter((entry) => entry.isDirectory() && entry.name !== 'torture').map(({ name }) => name)
}

function testsIn(folder: string): string[] {
  const all = readdirSync(path.join(repository, folder), { recursive: true, encoding: 'utf8' })
  const names = all.filter((name) => name.endsWith('.test.js'))
  return names.sort().map((name) => path.join(repository, folder, name))
}

/** A test whose name begins with no case belongs to the cases of its suite. */
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
      const nearest = [data.name, ...names.slice(0, data.nesting).reverse()].map(parseCases)
      const skipped = data.skip === undefined ? undefined : String(data.skip)
      ledger.told(nearest.find((found) => found.length > 0) ?? [], { failed, skipped })
    }
  }
}

/** Memory of a device that is refused at each allocation, on the device for tests; both families at once. */
async function device(): Promise<void> {
  const built = await step('the device for tests is built', 'cmake', [
    ...['--build', 'build/cmake', '--target', 'device_test'],
  ])
  if (built === undefined) return ledger.told(['gpu-memory-refused'], { failed: true })
  const checks = ['refused memory', 'Wan: refused memory'].map(async (check) => {
    const output = await step(check, 'build/cmake/test/native/device_test', ['test/fixtures', check], {
      TORCHREEL_TEST_EVERY_ALLOCATION: '1',
    })
    const refused = Number(/allocations refused: (\d+)/.exec(output ?? '')?.[1] ?? 0)
    ledger.told(['gpu-memory-refused'], { failed: refused === 0 })
    ledger.tried('gpu-memory-refused', Math.max(0, refused - 1))
    ledger.count('allocations of a device refused', refused)
  })
  await Promise.all(checks)
}

/** The core's own tests, compiled with sanitizers; libtorch is as it comes. */
async function sanitized(kind: 'address' | 'thread', name: string): Promise<void> {
  const script = kind === 'address' ? 'build:sanitize' : 'build:sanitize:thread'
  const built = await step(`the core with ${name} is built`, 'npm', ['run', script])
  const output =
    built === undefined
      ? undefined
      : await step(`the core’s tests under ${name}`, 'npm', ['run', script.replace('build', 'test')])
  ledger.told(['sanitizers'], { failed: output === undefined })
}

/** libFuzzer; what it finds stays in build/fuzz, the corpus in the repository is only read. */
async function fuzzed(subject: string, corpus: string): Promise<void> {
  const seconds = Number(process.env.FUZZ_SECONDS)
  const own = `build/fuzz/${corpus}`
  cpSync(path.join(repository, `test/native/fuzz/${corpus}`), path.join(repository, own), { recursive: true })
  const output = await step(`the ${subject} fuzzer, ${seconds} s`, `build/fuzz/${subject}_fuzz`, [
    ...[own, `-artifact_prefix=build/fuzz/${subject}-`, `-max_total_time=${seconds}`],
    ...['-max_len=4096', '-timeout=10', '-print_final_stats=1'],
  ])
  const inputs = Number(/number_of_executed_units:\s*(\d+)/.exec(output ?? '')?.[1] ?? 0)
  ledger.told(['sanitizers'], { failed: inputs === 0 })
  ledger.tried('sanitizers', Math.max(0, inputs - 1))
  ledger.count('bad inputs tried', inputs)
}

async function soak(): Promise<void> {
  const output = await step('a long run', process.execPath, [
    '--expose-gc',
    'build/test/torture/soak.js',
    '300',
  ])
  console.log(output ?? '')
  const jobs = Number(/jobs run: (\d+)/.exec(output ?? '')?.[1] ?? 0)
  ledger.told(['long-run'], { failed: output === undefined })
  ledger.tried('long-run', Math.max(0, jobs - 1))
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
