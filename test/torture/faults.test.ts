// Failures ordered in the addon and the core, which only a build with TORCHREEL_FAULTS takes (native/core/process/fault_order.h):
// the n-th place of a kind fails, n = 1, 2, 3 … until a run passes fewer places than that. After each one the contract
// holds: the code, no file, no child, no tensor left, and the next job gives its golden frames.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { TextToVideoPipeline, type TorchreelError, type TorchreelErrorCode } from 'torchreel'
import { startProgram } from '../support/child.js'
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
const smallest = { steps: 1, frames: 1, seed: 4, guidanceScale: 1, width: 16, height: 16 }
const open = () => TextToVideoPipeline.fromPretrained(tinyCheckpoint, { threads: 1 })
const pipeline = await open()
after(() => pipeline.dispose())
const golden = await pipeline.generate('a panda', options)
const goldenSmallest = await pipeline.generate('a panda', smallest)
const target = path.join(folder, 'video.apng')

const live = () => pipeline.memory().allocator?.allocatedBytes
// A pipeline remembers what its last prompts became: from now on it remembers as many as ever.
for (const prompt of 'abcdefgh') await pipeline.encodePrompt(prompt)
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
  const next = await pipeline.generate('a panda', smallest)
  assert.deepEqual(next.data, goldenSmallest.data, what)
  assert.equal(live(), baseline, `${what}: bytes in tensors after the next job`)
}

/** Fails every place of a kind in `work`, each in a run of its own; says how many there are, and gives it. */
async function failEach<T>(
  t: TestContext,
  kind: string,
  work: (place: number) => Promise<T>,
  assertFailed: (error: TorchreelError) => void,
): Promise<number> {
  for (let place = 1; ; place++) {
    assert.ok(place < 100_000, 'the run never passes')
    const what = `${kind}:${place}`
    const error = await failing(kind, place, () => work(place)).then(
      () => undefined,
      (thrown) => thrown as TorchreelError,
    )
    if (error === undefined) {
      tally(t, 'faults injected', place - 1)
      tally(t, 'found clean afterwards', place - 1)
      assert.deepEqual((await pipeline.generate('a panda', options)).data, golden.data)
      return place - 1
    }
    assert.equal(error.name, 'TorchreelError', `${what}: ${String(error)}`)
    assert.ok(error.message.length < 400 && !error.message.includes('\n'), `${what}: ${error.message}`)
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
  ['core-throws', 'int', 'ERR_INTERNAL', /no std::exception/],
  ['core-throws', 'exception', 'ERR_INTERNAL', /an ordered exception/],
  ['core-throws', 'torch', 'ERR_INTERNAL', /an ordered failure of libtorch/],
  ['core-throws, memory-refused', 'bad_alloc', 'ERR_OUT_OF_MEMORY', /memory/],
  ['core-throws, memory-refused', 'report', 'ERR_OUT_OF_MEMORY', /memory for a result/],
  ['core-throws, memory-refused', 'delivery', 'ERR_OUT_OF_MEMORY', /memory for a result/],
]

describe('a job', () => {
  for (const [cases, kind, code, message] of kinds) {
    test(`[${cases}] ${kind} at every place of a job`, async (t) => {
      const failed = await failEach(t, kind, generateAndSave, (error) => {
        assert.equal(error.code, code)
        assert.match(error.message, message)
      })
      assert.ok(failed >= 5, `${failed} places`)
    })
  }

  test('[memory-refused] every allocation of a tensor in a job refused, one after the other', async (t) => {
    const work = async (place: number) => {
      const video = await pipeline.generate(`a panda ${place}`, smallest) // which is encoded anew
      await video.save(target)
      rmSync(target)
    }
    const failed = await failEach(t, 'allocation', work, (error) => {
      assert.equal(error.code, 'ERR_OUT_OF_MEMORY')
      assert.equal(error.device, 'cpu')
      assert.match(error.message, /can't allocate memory: you tried to allocate \d+ bytes/)
    })
    assert.ok(failed > 300, `${failed} allocations`)
  })

  test('[numbers-not-finite] NaN at every stage and step', async (t) => {
    const seen: string[] = []
    await failEach(t, 'nan', generateAnew, ({ code, stage, step }) => {
      assert.equal(code, 'ERR_NUMERIC')
      seen.push(`${stage} ${step}`)
    })
    // The prompt and the negative prompt, two steps, two frames.
    assert.deepEqual(seen, ['encode 1', 'encode 1', 'denoise 1', 'denoise 2', 'decode 1', 'decode 2'])
  })
})

describe('loading', () => {
  const load = async () =>
    (await TextToVideoPipeline.fromPretrained(`${repository}models/shapes`, { dtype: 'bfloat16' })).dispose()
  for (const [cases, kind, code, message] of kinds.slice(0, 4)) {
    test(`[${cases}] ${kind} at every place of loading`, async (t) => {
      const failed = await failEach(t, kind, load, (error) => {
        assert.equal(error.code, code)
        assert.match(error.message, message)
      })
      assert.ok(failed >= 3, `${failed} places`)
    })
  }

  test('[memory-refused] every allocation of a tensor while loading refused, one after the other', async (t) => {
    const failed = await failEach(t, 'allocation', load, (error) => {
      assert.equal(error.code, 'ERR_OUT_OF_MEMORY', error.message)
      assert.equal(error.device, 'cpu')
    })
    assert.ok(failed > 100, `${failed} allocations`)
  })
})

describe('a lost device', () => {
  for (const [what, work] of [
    ['a job', 'pipeline.generate("a panda", options)'],
    ['loading', 'torchreel.TextToVideoPipeline.fromPretrained(pipeline.folder)'],
  ]) {
    test(`[lost-device] at every place of ${what}: later calls fail at once, and the process still ends by itself`, async (t) => {
      let place = 1
      for (; ; place++) {
        const { ended } = startProgram(`
          const options = { steps: 2, frames: 2, seed: 4 }
          const ending = ({ code, device, message }) => [code, device, message]
          const attempt = (work) => work().then(() => 'done', ending)
          process.env.TORCHREEL_FAULT = 'device:${place}'
          const first = await attempt(() => ${work})
          delete process.env.TORCHREEL_FAULT
          let began = false
          const onProgress = () => { began = true }
          const later = [
            await attempt(() => pipeline.generate('a panda', { ...options, onProgress })),
            await attempt(() => pipeline.encodePrompt('a panda')),
            await attempt(() => torchreel.TextToVideoPipeline.fromPretrained(pipeline.folder)),
          ]
          await pipeline.dispose()
          console.log(JSON.stringify({ first, later, began }))`)
        const { code, signal, stdout, stderr } = await ended
        assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
        const { first, later, began } = JSON.parse(stdout)
        if (first === 'done') break
        for (const [code, device, message] of [first, ...later]) {
          assert.deepEqual([code, device], ['ERR_DEVICE_LOST', 'cpu'])
          assert.match(message, /restart the process/)
        }
        assert.equal(began, false)
      }
      assert.ok(place > 5, `${place - 1} places`)
      tally(t, 'faults injected', place - 1)
    })
  }
})

test('the build that is shipped takes no orders', () => {
  const minor = readdirSync(`${build}/build/Release`).find((name) => name.startsWith('torchreel_core'))
  for (const name of ['torchreel.node', minor as string]) {
    assert.ok(readFileSync(`${build}/build/Release/${name}`).includes('TORCHREEL_FAULT'))
    assert.ok(!readFileSync(`${repository}build/Release/${name}`).includes('TORCHREEL_FAULT'))
  }
})
