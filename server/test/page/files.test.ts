// The built page: small, and nothing in it that the content security policy would stop.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'

const folder = join(import.meta.dirname, '../../../server/dist/web')
const assets = readdirSync(join(folder, 'assets'))

test('the scripts are under 30 KB compressed', () => {
  const scripts = assets.filter((name) => name.endsWith('.js'))
  assert.ok(scripts.length > 0)
  const bytes = scripts.map((name) => gzipSync(readFileSync(join(folder, 'assets', name))).length)
  assert.ok(bytes.reduce((sum, each) => sum + each) < 30_000, `${bytes}`)
})

test('the HTML shows the composer before any script, and has no script or style of its own', () => {
  const html = readFileSync(join(folder, 'index.html'), 'utf8')
  assert.match(html, /<textarea/)
  assert.doesNotMatch(html, /<style|style=|\son\w+=|<script[^>]*>[^<]/)
  assert.doesNotMatch(html, /(?:src|href)="(?:https?:)?\/\//)
})

test('the styles ask for nothing from elsewhere', () => {
  for (const name of assets.filter((each) => each.endsWith('.css'))) {
    assert.doesNotMatch(readFileSync(join(folder, 'assets', name), 'utf8'), /url\(|@import/)
  }
})
