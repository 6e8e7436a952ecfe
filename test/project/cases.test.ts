// The table of what can go wrong (test/torture/cases.ts) and the names of the tests match.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { repository } from '../support/fixtures.js'
import { cases, parseCases } from '../torture/cases.js'

const sources = ['test', 'server/test'].flatMap((folder) =>
  readdirSync(path.join(repository, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !/(^|\/)cases(\.test)?\.ts$/.test(name))
    .map((name) => readFileSync(path.join(repository, folder, name), 'utf8')),
)
const starts = sources.flatMap((source) =>
  Array.from(source.matchAll(/(?:test|describe)\(\s*['"`](\[[\w, -]+\] )/g), ([, start = '']) => start),
)
const tries = sources.join('\n')

test('every name that begins with cases names cases of the table', () => {
  assert.ok(starts.length > 100)
  for (const start of starts) assert.ok(parseCases(start).length > 0, start)
  assert.throws(() => parseCases('[no-such-case] a test'), /no-such-case/)
  assert.deepEqual(parseCases('[full-queue, aborted-in-queue] a test'), ['full-queue', 'aborted-in-queue'])
  assert.deepEqual(parseCases('a test'), [])
})

test('each case is tried by a test, or by a part of the long tests', () => {
  const untried = Object.keys(cases).filter((name) => !new RegExp(`['\`[ ]${name}[,\\]'\`]`).test(tries))
  assert.deepEqual(untried, [])
})
