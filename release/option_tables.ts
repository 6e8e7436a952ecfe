// Writes the tables of options into the documents: `npm run docs:options`. A table stands between two comments, of which the
// first says which options it shows: those of an owner and a group, or some of an owner's by name, in short.
//   <!-- options of call: "Denoising" -->   <!-- options of call: steps frames -->   …   <!-- end of options -->
import { readFileSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { type OptionFacts, options } from 'torchreel/options'

export const documents = ['README.md', 'docs/options.md']

const block = /(<!-- options of (\w+): (.+?) -->\n)([\s\S]*?)(<!-- end of options -->)/g

/** The tables of a document: what their comments ask for, how they stand there, and how they should. */
export function tablesOf(document: string, text: string): { asked: string; found: string; wanted: string }[] {
  return Array.from(text.matchAll(block), ([, , owner = '', which = '', found = '']) => ({
    asked: `${owner}: ${which}`,
    found,
    wanted: render(owner, which, document.startsWith('docs/') ? '' : 'docs/'),
  }))
}

function render(owner: string, which: string, folder: string): string {
  const group = /^"(.+)"$/.exec(which)?.[1]
  const shown =
    group === undefined
      ? which.split(' ').map((name) => find(owner, name))
      : options.filter((option) => option.owner === owner && option.group === group)
  if (shown.length === 0) throw new Error(`no option of ${owner} is in the group ${group}`)
  const short = group === undefined
  const head = short
    ? '| option | default | what it does |\n|---|---|---|\n'
    : '| option | value | default | what it does |\n|---|---|---|---|\n'
  const rows = shown.map((option) => {
    const { name, expected } = option
    const cells = [
      `\`${name}\``,
      ...(short ? [] : [expected]),
      defaultOf(option),
      descriptionOf(option, folder),
    ]
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  })
  return `\n${head}${rows.join('')}\n`
}

function find(owner: string, name: string): OptionFacts {
  const option = options.find((one) => one.owner === owner && one.name === name)
  if (!option) throw new Error(`there is no option ${name} of ${owner}`)
  return option
}

function defaultOf({ default: value, defaultText }: OptionFacts): string {
  if (defaultText !== undefined || value === undefined) return defaultText ?? ''
  return typeof value === 'string' ? `\`'${value}'\`` : String(value)
}

function descriptionOf({ description, unit, see }: OptionFacts, folder: string): string {
  const measured = unit === undefined ? description : `${description} (${unit})`
  return see === undefined ? measured : `${measured}: [${see[0]}](${folder}${see[1]})`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const document of documents) {
    const text = readFileSync(document, 'utf8')
    const tables = tablesOf(document, text)
    let index = 0
    const written = text.replace(
      block,
      (_, start, _owner, _which, _found, end) => start + tables[index++]?.wanted + end,
    )
    if (written !== text) writeFileSync(document, written)
  }
}
