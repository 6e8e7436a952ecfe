// Failures ordered in the addon and the core, which only a build with TORCHREEL_FAULTS takes (native/core/fault_order.h):
// the n-th place of a kind fails, n = 1, 2, 3 … until a run passes fewer places than that. After each one the contract
// holds: the code, no file, no child, no tensor left, and the next job gives its golden frames.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { TextToVideoPipeline, type TorchreelError, type TorchreelErrorCode } from 'torchreel'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { tally } from '../support/tally.js'

const build = path.join(repository, 'build/faults')
assert.ok(
  existsSync(`${build}/build/Release/torchreel.node`),
  'npm run build:faults makes the build that is tested',
)
process.env.TORCHREEL_PREBUILD = build

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-faults-'))
after(() => rmSync(folder, { recursive: true }))

const options = { steps: 2, frames: 2, seed: 4, returnLatents: true }
const open = () => TextToVideoPipeline.fromPretrained(tinyCheckpoint, { threads: 1 })
const pipeline = await open()
after(() => pipeline.dispose())
const golden = await pipeline.generate('a panda', options)
const target = path.join(folder, 'video.apng')

const live = () => pipeline.memory().allocator?.allocatedBytes
await pipeline.generate('a panda', options)
const baseline = live()
assert.ok(baseline !== undefined, 'this build counts the bytes of tensors')
const children = () => readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')

async function failing<T>(kind: string, place: number, work: () => Promise<T>): Promise<T> {
  process.env.TORCHREEL_FAULT = `${kind}:${place}`
  try {
    return await work()
  } finally {
    delete process.env.TORCHREEL_FAULT
  }
}

async function assertClean(what: string): Promise<void> {
  assert.deepEqual(readdirSync(folder), [], what)
  assert.equal(children(), '', what)
  assert.equal(live(), baseline, `${what}: bytes in tensors`)
  const next = await pipeline.generate('a panda', options)
  assert.deepEqual(next.data, golden.data, what)
  assert.equal(live(), baseline, `${what}: bytes in tensors after the next job`)
}

/** Fails every place of a kind in `work`, each in a run of its own; gives how many there are. */
async function failEach<T>(
  kind: string,
  work: () => Promise<T>,
  assertFailed: (error: TorchreelError) => void,
  every = 1,
): Promise<number> {
  for (let place = 1, failed = 0; ; place += every, failed++) {
    assert.ok(place < 100_000, 'the run never passes')
    const what = `${kind}:${place}`
    const error = await failing(kind, place, work).then(
      () => undefined,
      (thrown) => thrown as TorchreelError,
    )
    if (error === undefined) return failed
    assert.equal(error.name, 'TorchreelError', `${what}: ${String(error)}`)
    assertFailed(error)
    await assertClean(what)
  }
}

const generateAndSave = async () => {
  const video = await pipeline.generate('a panda', options)
  await video.save(target)
  rmSync(target)
}

/** Nothing is remembered of the prompts: they are encoded each time. */
const generateAnew = async () => {
  const another = await open()
  try {
    await another.generate('a panda', options)
  } finally {
    await another.dispose()
  }
}

const kinds: [string, string, TorchreelErrorCode, RegExp][] = [
  ['29', 'int', 'ERR_INTERNAL', /no std::exception/],
  ['29', 'exception', 'ERR_INTERNAL', /an ordered exception/],
  ['29', 'torch', 'ERR_INTERNAL', /an ordered failure of libtorch/],
  ['29, 60', 'bad_alloc', 'ERR_OUT_OF_MEMORY', /memory/],
  ['29, 60', 'report', 'ERR_OUT_OF_MEMORY', /memory for a result/],
  ['29, 60', 'delivery', 'ERR_OUT_OF_MEMORY', /memory for a result/],
]

describe('a job', () => {
  for (const [cases, kind, code, message] of kinds) {
    test(`${cases}: ${kind} at every place of a job`, async (t) => {
      const failed = await failEach(kind, generateAndSave, (error) => {
        assert.equal(error.code, code)
        assert.match(error.message, message)
        assert.ok(error.message.length < 400, 'no backtrace')
      })
      assert.ok(failed >= 5, `${failed} places`)
      tally(t, cases, 'faults injected', failed)
    })
  }

  test('60: every 31st allocation of a tensor in a job refused, one after the other', async (t) => {
    const every = Number(process.env.TORTURE_EVERY ?? 31)
    const failed = await failEach(
      'allocation',
      generateAndSave,
      ({ code }) => assert.equal(code, 'ERR_OUT_OF_MEMORY'),
      every,
    )
    assert.ok(failed > 10, `${failed} allocations`)
    tally(t, '60', 'faults injected', failed)
  })

  test('55: NaN at every stage and step', async (t) => {
    const seen: string[] = []
    const failed = await failEach('nan', generateAnew, ({ code, stage, step }) => {
      assert.equal(code, 'ERR_NUMERIC')
      seen.push(`${stage} ${step}`)
    })
    // The prompt and the negative prompt, two steps, two frames.
    assert.deepEqual(seen, ['encode 1', 'encode 1', 'denoise 1', 'denoise 2', 'decode 1', 'decode 2'])
    tally(t, '55', 'faults injected', failed)
  })
})

test('the build that is shipped takes no orders', () => {
  const minor = readdirSync(`${build}/build/Release`).find((name) => name.startsWith('torchreel_core'))
  for (const name of ['torchreel.node', minor as string]) {
    assert.ok(readFileSync(`${build}/build/Release/${name}`).includes('TORCHREEL_FAULT'))
    assert.ok(!readFileSync(`${repository}build/Release/${name}`).includes('TORCHREEL_FAULT'))
  }
})
