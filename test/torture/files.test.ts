// Checkpoints cut at every 16th and with every header that the format forbids: refused with a code, or
// loaded; never a crash and never a hang.
import assert from 'node:assert/strict'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { TextToVideoPipeline, TorchreelError } from 'torchreel'
import { changed, unet } from '../support/changed_checkpoint.js'
import { tinyCheckpoint } from '../support/fixtures.js'
import { malformedHeaders, withHeader } from '../support/malformed_headers.js'
import { tally } from '../support/tally.js'

const whole = readFileSync(path.join(tinyCheckpoint, unet))
const model = changed(() => {})
const file = path.join(model, unet)

/** The code that loading ends with, or 'loaded'. */
async function outcome(content: Buffer): Promise<string> {
  writeFileSync(file, content)
  try {
    await (await TextToVideoPipeline.fromPretrained(model)).dispose()
    return 'loaded'
  } catch (error) {
    assert.ok(error instanceof TorchreelError, String(error))
    return error.code
  }
}

test('41: cut at every 16th', async (t) => {
  for (let part = 0; part < 16; part++) {
    assert.equal(
      await outcome(whole.subarray(0, Math.floor((whole.length * part) / 16))),
      'ERR_MODEL_CORRUPT',
    )
  }
  tally(t, '41', 'bad inputs tried', 16)
})

test('37: every header that the format forbids', async (t) => {
  for (const [name, header, payload] of malformedHeaders) {
    assert.equal(await outcome(withHeader(header, payload)), 'ERR_MODEL_CORRUPT', name)
  }
  tally(t, '35–40', 'bad inputs tried', malformedHeaders.length)
})

test('the whole file still loads', async () => {
  assert.equal(await outcome(whole), 'loaded')
  truncateSync(file, 0)
})
