// Cleaned prompts are those of the reference: Python's html.unescape, twice, and white space of the package regex.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { cleanPrompt } from '#dist/text/prompt_cleaning.js'
import { repository } from '../support/fixtures.js'

const read = (name: string) => JSON.parse(readFileSync(`${repository}test/fixtures/${name}`, 'utf8'))

describe('cleaned prompts', () => {
  test('are those of the reference', () => {
    const { prompts } = read('wan_tokens.json') as { prompts: { text: string; clean: string }[] }
    for (const { text, clean } of prompts) assert.equal(cleanPrompt(text), clean)
  })

  test('are those of the reference for entities of all kinds, known and unknown', () => {
    for (const [text, clean] of read('cleaned_prompts.json') as [string, string][])
      assert.equal(cleanPrompt(text), clean, JSON.stringify(text))
  })

  for (const [text, clean] of [
    ['&amp;lt;b&amp;gt;', '<b>'],
    ['&amp;amp;lt;', '&lt;'],
    ['R&D, a&b &c; &', 'R&D, a&b &c; &'],
    ['&notit; &ampx &hellip', '¬it; &x &hellip'],
    ['&#65;&#x42;&#X43&#68', 'ABCD'],
    ['&#128;&#129;&#151;', '€\u0081—'],
    ['a&#1;b&#127;c&#65534;d&#xfdd0;e', 'abcde'],
    ['&#0;&#xd800;&#x110000;&#99999999999999999999;', '\ufffd'.repeat(4)],
    ['\u001c a\u001cb \u001f\n', 'a\u001cb'],
    ['a\u00a0\u3000b\u0085c\ufeffd\u200be', 'a b c\ufeffd\u200be'],
    ['&nbsp;&#32;', ''],
  ] as const) {
    test(JSON.stringify(text), () => assert.equal(cleanPrompt(text), clean))
  }

  test('the longest prompts take no longer than their length', () => {
    for (const text of ['&', ' ', '\u001c', '&amp', '&#1', 'x '])
      assert.ok(cleanPrompt(`${text.repeat(300_000)}x`).endsWith('x'))
  })
})
