// The tables of options in the documents are those of the code, and no option is left out.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { options } from 'torchreel/options'
import { documents, tablesOf } from '../../release/option_tables.js'
import { repository } from '../support/fixtures.js'

for (const document of documents) {
  const tables = tablesOf(document, readFileSync(`${repository}${document}`, 'utf8'))
  assert.ok(tables.length > 0, document)
  for (const { asked, found, wanted } of tables) {
    test(`${document}: the table of ${asked}; \`npm run docs:options\` writes it`, () =>
      assert.equal(found, wanted))
  }
}

test('docs/options.md has every option', () => {
  const tables = tablesOf('docs/options.md', readFileSync(`${repository}docs/options.md`, 'utf8'))
  for (const { owner, name } of options) {
    const own = tables.filter(({ asked }) => asked.startsWith(`${owner}: `))
    assert.ok(
      own.some(({ wanted }) => wanted.includes(`| \`${name}\` |`)),
      `${name} of ${owner}`,
    )
  }
})
