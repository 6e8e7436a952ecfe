// The table of what can go wrong (test/torture/cases.ts) and the names of the tests match.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { repository } from '../support/fixtures.js'
import { cases, parseCases, untested } from '../torture/cases.js'

const folder = path.join(repository, 'test')
const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
)
const starts = sources.flatMap((name) =>
  Array.from(
    readFileSync(path.join(folder, name), 'utf8').matchAll(/(?:test|describe)\(\s*['`](\[[\w, -]+\] )/g),
    ([, start = '']) => start,
  ),
)

test('every name that begins with cases names cases of the table', () => {
  assert.ok(starts.length > 100)
  for (const start of starts) assert.ok(parseCases(start).length > 0, start)
  assert.throws(() => parseCases('[no-such-case] a test'), /no-such-case/)
  assert.deepEqual(parseCases('[full-queue, aborted-in-queue] a test'), ['full-queue', 'aborted-in-queue'])
  assert.deepEqual(parseCases('a test'), [])
})

test('cases without a test say why', () => {
  for (const name of Object.keys(untested)) assert.ok(name in cases, name)
})
