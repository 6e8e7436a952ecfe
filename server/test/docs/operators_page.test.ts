// docs/server.md says what --help and /metrics say.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import { start } from '../support/acting_server.js'
import { optionsOf, page, repository, tablesOf } from './option_tables.js'

const text = readFileSync(page, 'utf8')
const tables = tablesOf(text)
const running = await start()
after(() => running.close())

for (const { group, found, wanted } of tables)
  test(`the table of ${group}; \`npm run docs:options --workspace server\` writes it`, () =>
    assert.equal(found, wanted))

for (const command of [[], ['worker']])
  test(`every option of ${['torchreel-server', ...command].join(' ')} is in a table, with its default`, () => {
    const options = optionsOf(...command)
    assert.ok(options.length > 1)
    for (const { flags, default: value } of options) {
      const row = `| \`${flags}\` | ${value} |`
      assert.equal(tables.filter(({ found }) => found.includes(row)).length, 1, row)
    }
  })

test('the help of torchreel-server is read whole', () => {
  const names = optionsOf().map(({ flags }) => flags.split(' ')[0])
  for (const name of [
    '--model',
    '--port',
    '--no-page',
    '--data',
    '--s3',
    '--max-request',
    '--drain',
    '--log-level',
  ])
    assert.ok(names.includes(name), name)
  const defaults = new Map(optionsOf().map(({ flags, default: value }) => [flags, value]))
  assert.equal(defaults.get('--port <n>'), '8080')
  assert.equal(defaults.get('--data <folder>'), '~/.local/share/torchreel-server')
})

test('its table of measurements has the names and types of /metrics, and no others', async () => {
  const metrics = await (await fetch(`${running.url}/metrics`)).text()
  const told = Array.from(metrics.matchAll(/^# TYPE (\w+) (\w+)$/gm), ([, name, type]) => `${name} ${type}`)
  const rows = text.matchAll(/^\| `(torchreel_\w+)`[^|]*\| (\w+) \|/gm)
  const said = Array.from(rows, ([, name, type]) => `${name} ${type}`)
  assert.ok(told.length > 5)
  assert.deepEqual(said.sort(), told.sort())
})

for (const [file, count] of [
  ['compose.yaml', 2],
  ['torchreel-server.service', 1],
] as const)
  test(`examples/server/${file} uses options that there are`, () => {
    const names = new Set([...optionsOf(), ...optionsOf('worker')].map(({ flags }) => flags.split(' ')[0]))
    const example = readFileSync(path.join(repository, 'examples', 'server', file), 'utf8')
    const lines = example.match(/^(ExecStart=| {4}command: (?!redis-server)).*$/gm) ?? []
    assert.equal(lines.length, count)
    for (const [option] of lines.join('\n').matchAll(/(?<= )--[\w-]+/g)) assert.ok(names.has(option), option)
    assert.ok(lines.every((line) => line.includes(' --data ')))
  })
