// Checkpoints cut at every 16th, with bits flipped, and with every header that the format forbids: refused with a code, or
// loaded; never a crash and never a hang.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { TextToVideoPipeline, TorchreelError } from 'torchreel'
import { changed, unet } from '../support/changed_checkpoint.js'
import { tinyCheckpoint } from '../support/fixtures.js'
import { malformedHeaders, withHeader } from '../support/malformed_headers.js'
import { tally } from '../support/tally.js'

const whole = readFileSync(path.join(tinyCheckpoint, unet))
const headerLength = Number(whole.readBigUInt64LE(0))
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

/** The same numbers each time. */
function* random(): Generator<number> {
  for (let state = 12345; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state / 2 ** 32
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

test('42: 100 flips of a bit in the header', async (t) => {
  const numbers = random()
  const next = (below: number) => Math.floor((numbers.next().value as number) * below)
  const seen = new Map<string, number>()
  for (let flip = 0; flip < 100; flip++) {
    const content = Buffer.from(whole)
    const at = next(8 + headerLength)
    content[at] = (content[at] as number) ^ (1 << next(8))
    const code = await outcome(content)
    seen.set(code, (seen.get(code) ?? 0) + 1)
  }
  // A name with a letter changed is a tensor that is missing and another too many.
  const codes = ['loaded', 'ERR_MODEL_CORRUPT', 'ERR_MODEL_INCOMPATIBLE', 'ERR_MODEL_UNTRUSTED']
  assert.ok(
    [...seen.keys()].every((code) => codes.includes(code)),
    [...seen].join(),
  )
  assert.ok((seen.get('ERR_MODEL_CORRUPT') ?? 0) > 30)
  tally(t, '42', 'bad inputs tried', 100)
})

test('42: flips in the numbers: what is downloaded is known by its hash; what lies in a folder is data', async (t) => {
  const numbers = random()
  const digest = (content: Buffer) => createHash('sha256').update(content).digest('hex')
  for (let flip = 0; flip < 10; flip++) {
    const content = Buffer.from(whole)
    const at =
      8 + headerLength + Math.floor((numbers.next().value as number) * (whole.length - headerLength - 8))
    content[at] = (content[at] as number) ^ 0x40
    assert.notEqual(digest(content), digest(whole))
    assert.equal(await outcome(content), 'loaded')
    await using pipeline = await TextToVideoPipeline.fromPretrained(model)
    await pipeline
      .generate('a', { steps: 1, frames: 1 })
      .catch(({ code }) => assert.equal(code, 'ERR_NUMERIC'))
  }
  tally(t, '42', 'bad inputs tried', 10)
})

test('the whole file still loads', async () => {
  assert.equal(await outcome(whole), 'loaded')
  truncateSync(file, 0)
})
