// Fewer threads while other programs keep the processors busy.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, getPriority, tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { TextToVideoPipeline } from 'torchreel'
import { ProcessorUse } from '#dist/machine/processor_use.js'
import { Threads } from '#dist/machine/threads.js'
import { busyProcesses } from '../../bench/busy_processes.js'
import { withEnvironment } from '../support/video.js'

const root = mkdtempSync(path.join(tmpdir(), 'torchreel-'))
after(() => rmSync(root, { recursive: true }))
mkdirSync(path.join(root, 'proc/self'), { recursive: true })
writeFileSync(path.join(root, 'proc/self/status'), 'Name:\tnode\nCpus_allowed_list:\t0-1,3\n')

/** The ticks that the system has counted on processors 0 to 3: user, nice, system, idle, waiting for input and output. */
const count = (...processors: number[][]) =>
  writeFileSync(
    path.join(root, 'proc/stat'),
    `cpu  0 0 0 0\n${processors.map((ticks, index) => `cpu${index} ${ticks.join(' ')} 0 0 0 0 0\n`).join('')}intr 0\n`,
  )

/** The busy processors after the counts have grown, times the seconds that have gone by: seconds of a processor. */
async function secondsOfOthers(before: number[][], now: number[][]): Promise<number> {
  count(...before)
  const use = new ProcessorUse(root)
  const begun = performance.now()
  const own = process.cpuUsage()
  await wait(150)
  count(...now)
  const { busy, processors } = use.look() ?? assert.fail('it told nothing')
  assert.equal(processors, 3)
  const { user, system } = process.cpuUsage(own)
  return busy * ((performance.now() - begun) / 1000) + (user + system) / 1e6
}

const idle = [0, 0, 0, 500, 0]

test('counts user and system time of all programs, without this one', async () => {
  const others = await secondsOfOthers([idle, idle, idle, idle], [[1000, 0, 200, 500, 0], idle, idle, idle])
  assert.ok(Math.abs(others - 12) < 0.6, `${others}`)
})

test('counts neither idle processors nor waiting for disks nor processors that this process may not use', async () => {
  const others = await secondsOfOthers(
    [idle, idle, idle, idle],
    [[0, 0, 0, 900, 700], idle, [1000, 0, 0, 500, 0], [300, 0, 0, 500, 0]],
  )
  assert.ok(Math.abs(others - 3) < 0.6, `${others}`)
})

test('programs of low priority do not count for one of normal priority', async (t) => {
  if (getPriority() > 0) return t.skip('this process has a low priority itself')
  const others = await secondsOfOthers(
    [idle, idle, idle, idle],
    [[400, 1000, 0, 500, 0], idle, idle, [0, 1000, 0, 500, 0]],
  )
  assert.ok(Math.abs(others - 4) < 0.6, `${others}`)
})

test('tells nothing about less than 100 ms, nor where the system does not tell', () => {
  count(idle)
  assert.equal(new ProcessorUse(root).look(), undefined)
  assert.equal(new ProcessorUse(path.join(root, 'nowhere')).look(), undefined)
})

const choice = (
  most: number,
  use: { processors: number; busy: number; own?: number },
  givesWay = true,
  mayVary = true,
) =>
  new Threads({ threads: most, reason: '', givesWay }, mayVary, {
    look: () => ({ own: 0, ...use }),
  } as ProcessorUse).look()

const threads = (most: number, processors: number, busy: number, givesWay = true, mayVary = true) =>
  choice(most, { processors, busy }, givesWay, mayVary).threads

test('no thread for a processor that others keep busy, but half of them at least', () => {
  assert.deepEqual(
    [0, 0.4, 0.6, 1.2, 3, 4, 7.9].map((busy) => threads(8, 8, busy)),
    [8, 8, 7, 7, 5, 4, 4],
  )
  assert.deepEqual(
    [0, 0.7, 2].map((busy) => threads(2, 2, busy)),
    [2, 1, 1],
  )
  assert.equal(threads(1, 1, 1), 1)
  assert.equal(threads(2, 64, 60), 2, 'a quota below what is free')
  assert.equal(threads(8, 8, 7, false), 8, 'a number that somebody chose')
  assert.equal(threads(8, 8, 7, true, false), 8, 'a model whose numbers depend on it')
})

test('beside busy programs a team has all threads, apart where a processor is free', () => {
  const none = { threads: 8, team: 0, apart: true }
  assert.deepEqual(choice(8, { processors: 8, busy: 0.4 }), none)
  assert.deepEqual(choice(8, { processors: 8, busy: 1.2 }), { threads: 7, team: 8, apart: true })
  assert.deepEqual(choice(8, { processors: 8, busy: 1.2 }, true, false), { threads: 8, team: 8, apart: true })
  assert.deepEqual(choice(8, { processors: 8, busy: 7 }, false), { ...none, apart: false })
  assert.deepEqual(choice(2, { processors: 2, busy: 2 }), { threads: 1, team: 2, apart: false })
  assert.deepEqual(choice(2, { processors: 64, busy: 60 }), { threads: 2, team: 0, apart: true }, 'a quota')
})

test('what others get beside our threads is less than what they want', () => {
  // One busy program beside two threads on two processors gets two thirds of one; two get one.
  assert.equal(choice(2, { processors: 2, busy: 0.67, own: 1.33 }).apart, true)
  assert.equal(choice(2, { processors: 2, busy: 0.45, own: 1.5 }).team, 2)
  assert.equal(choice(2, { processors: 2, busy: 1, own: 1 }).apart, false)
  // Four busy programs beside eight threads on eight processors get two and two thirds.
  assert.equal(choice(8, { processors: 8, busy: 2.67, own: 5.33 }).threads, 4)
  assert.equal(choice(8, { processors: 8, busy: 2.67, own: 1 }).threads, 5)
})

test('beside busy processes a video takes fewer threads, says so, and is the same', async (t) => {
  const most = availableParallelism()
  if (most === 1) return t.skip('there is one processor')
  using _ = withEnvironment({ OMP_NUM_THREADS: undefined })
  const options = { steps: 4, seed: 3 }
  await using chosen = await TextToVideoPipeline.fromPretrained('shapes', { threads: most })
  const expected = await chosen.generate('a red circle', options)
  assert.equal(expected.threads, most)

  await using others = await busyProcesses(most)
  await using pipeline = await TextToVideoPipeline.fromPretrained('shapes')
  await wait(300)
  const video = await pipeline.generate('a red circle', options)
  assert.equal(video.threads, Math.ceil(most / 2))
  assert.deepEqual(video.data, expected.data)
  assert.ok(others)
})
