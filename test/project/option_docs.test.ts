// The interfaces of options, which editors show, say the same defaults as the tables of options, which all else is made of.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { type OptionFacts, type OptionOwner, options } from 'torchreel/options'
import { families } from '#dist/families/families.js'
import { repository } from '../support/fixtures.js'

/** Where the interfaces of each owner's options stand. */
const interfaces: Record<OptionOwner, [file: string, names: string[]][]> = {
  generate: [['lib/options/one_call.ts', ['OneCallOptions']]],
  pipeline: [
    ['lib/options/pipeline.ts', ['PipelineOptions']],
    ['lib/hub/hub.ts', ['HubOptions']],
  ],
  call: [['lib/options/call.ts', ['GenerateOptions']]],
  file: [['lib/video/write/options.ts', ['EncodeSettings', 'EncodeOptions', 'EncodeToFileOptions']]],
  lora: [['lib/adapters/options.ts', ['LoraOptions']]],
  textualInversion: [['lib/adapters/options.ts', ['TextualInversionOptions']]],
  limits: [['lib/options/limits.ts', ['Limits']]],
}

/** The comments of an interface's members on one line each, by their names. */
function commentsOf(file: string, name: string): [member: string, comment: string][] {
  const source = readFileSync(`${repository}${file}`, 'utf8')
  const [, body = ''] =
    new RegExp(`^export interface ${name}\\b[^{]*\\{\\n(.*?)^\\}`, 'ms').exec(source) ?? []
  const members = Array.from(body.matchAll(/^ {2}\/\*\*((?:(?!\*\/).)*)\*\/\n {2}(?:readonly )?(\w+)\??:/gms))
  return members.map(([, comment = '', member = '']) => [
    member,
    comment.replaceAll(/\s*\n\s*\*?\s*/g, ' ').trim(),
  ])
}

/** Markdown and links as plain text. */
const plain = (text: string) => text.replaceAll('`', '').replaceAll(/\{@link (\w+)\}/g, '$1')

function defaultOf({ default: value, defaultText }: OptionFacts): string | undefined {
  if (defaultText !== undefined) return plain(defaultText)
  return typeof value === 'string' ? `'${value}'` : value === undefined ? undefined : String(value)
}

for (const [owner, places] of Object.entries(interfaces)) {
  describe(`options of ${owner}`, () => {
    for (const option of options.filter((one) => one.owner === owner)) {
      const found = places
        .flatMap(([file, names]) =>
          names.map((name) => ({ file, name, comments: new Map(commentsOf(file, name)) })),
        )
        .find(({ comments }) => comments.has(option.name))
      const place = `${found?.file}: ${found?.name}.${option.name}`
      const [comment = '', said] = plain(found?.comments.get(option.name) ?? '').split('@defaultValue ')
      const wanted = defaultOf(option)

      test(`${place} has the table's default`, () => {
        assert.ok(found, 'it has a comment')
        // The comment may add why, after a mark.
        const more = wanted !== undefined && said?.startsWith(wanted) ? said.slice(wanted.length) : undefined
        assert.ok(said === wanted || /^[:;,]/.test(more ?? ''), `it says ${said}, and the table ${wanted}`)
      })

      for (const { title, refusedOptions } of families) {
        if (owner !== 'call' && owner !== 'pipeline') continue
        test(`${place} says whether it is for ${title}`, () => {
          const refused = Object.hasOwn(refusedOptions, option.name)
          assert.equal(new RegExp(`\\bnot for ${title}\\b`, 'i').test(comment), refused)
          assert.equal(option.description.includes(`not for ${title}`), refused)
        })
      }
    }
  })
}

test('families refuse options that there are', () => {
  const names = options
    .filter(({ owner }) => owner === 'call' || owner === 'pipeline')
    .map(({ name }) => name)
  for (const { refusedOptions } of families)
    for (const name of Object.keys(refusedOptions)) assert.ok(names.includes(name), name)
})
