// The measured process, which all measurements use.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { torchreel } from '../../bench/processes.js'
import { spread } from '../../bench/statistics.js'
import { tinyCheckpoint } from '../support/fixtures.js'

const scratch = await mkdtemp(path.join(tmpdir(), 'torchreel-test-'))
after(() => rm(scratch, { recursive: true }))

test('stages follow each other from the start of the process to the file, and every step is timed', async () => {
  const measured = await torchreel.measure({
    ...{
      model: tinyCheckpoint,
      prompt: 'a boat',
      steps: 3,
      frames: 2,
      width: 32,
      height: 24,
      seed: 1,
      runs: 1,
    },
    guidanceScale: 9,
    ...{ device: 'cpu', dtype: 'float32', offload: 'none', trustGraph: false },
    output: path.join(scratch, 'boat.mp4'),
    frameFile: path.join(scratch, 'boat.rgb'),
  })
  assert.equal(measured.videos.length, 2)
  const [cold, warm] = measured.videos as [(typeof measured.videos)[0], (typeof measured.videos)[0]]
  for (const video of measured.videos) {
    assert.equal(video.steps.length, 3)
    const sum = video.steps.reduce((all, step) => all + step, 0)
    assert.ok(Math.abs(sum - video.loopMs) < 1e-6, 'the steps are the loop')
  }
  const { startMs, importMs, loadMs, firstStepMs } = measured
  const before = startMs + importMs + loadMs
  const parts = before + cold.encodeMs + cold.loopMs + cold.decodeMs + cold.writeMs
  assert.ok(parts <= cold.sinceStartMs + 2, 'no moment counts twice') // clocks of whole milliseconds
  assert.ok(before < firstStepMs && firstStepMs < cold.sinceStartMs && cold.sinceStartMs < warm.sinceStartMs)
  assert.ok(measured.processorMs > 0 && measured.elsewhere >= 0 && measured.elsewhere <= 1)
  assert.equal((await readFile(path.join(scratch, 'boat.rgb'))).length, 2 * 24 * 32 * 3)
  assert.equal((await readFile(path.join(scratch, 'boat.mp4'))).toString('latin1', 4, 8), 'ftyp')
})

test('a spread is the middle and the ends of numbers in any order', () => {
  assert.deepEqual(spread([3, 1, 2]), { median: 2, lowest: 1, highest: 3 })
  assert.deepEqual(spread([4, 1]), { median: 2.5, lowest: 1, highest: 4 })
})
