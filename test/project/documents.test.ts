// The documents match the code: every error code has its section, and every link has a target.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { schedulerFrom, schedulerNames } from 'torchreel'
import { repository } from '../support/fixtures.js'

const read = (name: string) => readFileSync(path.join(repository, name), 'utf8')

test('docs/troubleshooting.md has a section for every code, and for no other', () => {
  const [, codes = ''] = /type TorchreelErrorCode =([^;]+?)\n\n/.exec(read('lib/errors.ts')) ?? []
  const known = (codes.match(/ERR_\w+/g) ?? []).sort()
  const sections = Array.from(
    read('docs/troubleshooting.md').matchAll(/^### (ERR_\w+)$/gm),
    ([, code]) => code,
  )
  assert.ok(known.length > 20)
  assert.deepEqual(sections.sort(), known)
})

test('docs/schedulers.md has every scheduler with its class and its name, and the documents count them', () => {
  const page = read('docs/schedulers.md')
  const rows = page.matchAll(/^\| `(\w+Scheduler)` \| `([\w-]+)`/gm)
  const found = Object.fromEntries(Array.from(rows, ([, className, name]) => [name, className]))
  const wanted = Object.fromEntries(schedulerNames.map((name) => [name, schedulerFrom(name).name]))
  assert.deepEqual(found, wanted)
  for (const document of ['README.md', 'CHANGELOG.md', 'docs/schedulers.md']) {
    const counts = Array.from(read(document).matchAll(/(\d+) schedulers/g), ([, count]) => Number(count))
    assert.ok(counts.length > 0, document)
    assert.deepEqual(new Set(counts), new Set([schedulerNames.length]), document)
  }
})

test('links between documents lead to files that are there', () => {
  const documents = [
    'README.md',
    'CONTRIBUTING.md',
    'ARCHITECTURE.md',
    'SECURITY.md',
    'bench/README.md',
    'models/README.md',
    'models/shapes/README.md',
    'server/README.md',
    'server/web/README.md',
  ]
  for (const name of readdirSync(`${repository}docs`))
    if (name.endsWith('.md')) documents.push(`docs/${name}`)
  const missing = documents.flatMap((document) =>
    Array.from(read(document).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g), ([, link = '']) =>
      path.join(path.dirname(document), link),
    ).filter((file) => !existsSync(path.join(repository, file))),
  )
  assert.deepEqual(missing, [])
})
