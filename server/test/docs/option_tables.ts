// Writes the tables of options into docs/server.md: `npm run docs:options --workspace server`. They are what --help says. A
// table stands between two comments, of which the first names the command, and the group of --help that the table shows:
//   <!-- options of torchreel-server: Limits -->   …   <!-- end of options -->
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const repository = path.dirname(createRequire(import.meta.url).resolve('torchreel/package.json'))
export const page = path.join(repository, 'docs', 'server.md')

export interface HelpOption {
  /** The command, and the heading in its help. */
  readonly group: string
  /** Such as `--port <n>`. */
  readonly flags: string
  readonly default: string
  readonly description: string
}

const program = fileURLToPath(import.meta.resolve('#server/cli/main.js'))
const home = '/home/reader'

/** The options of a command, as its --help lists them. */
export function optionsOf(...command: string[]): HelpOption[] {
  const { stdout } = spawnSync(process.execPath, [program, ...command, '--help'], {
    encoding: 'utf8',
    env: { ...process.env, HOME: home, XDG_DATA_HOME: '' },
  })
  // Long descriptions go on in the next lines, which are indented more.
  const lines = stdout.replaceAll(/\n {10,}/g, ' ').split('\n')
  const options: HelpOption[] = []
  let heading = ''
  for (const line of lines) {
    heading = /^(\S.*):$/.exec(line)?.[1] ?? heading
    const [, flags, text] = /^ {2}(--\S+(?: \S+)?) {2,}(.+)$/.exec(line) ?? []
    if (flags === undefined || text === undefined) continue
    const [, description = text, value = ''] = /^(.*?) ?\(default: (.*)\)$/.exec(text) ?? []
    options.push({
      group: `${['torchreel-server', ...command].join(' ')}: ${heading}`,
      flags,
      default: value.replaceAll('"', '').replace(home, '~'),
      description,
    })
  }
  return options
}

const all = [...optionsOf(), ...optionsOf('worker')]
const block = /(<!-- options of (.+?) -->\n)([\s\S]*?)(<!-- end of options -->)/g

/** The tables of a text: what their comments ask for, how they stand there, and how they should. */
export function tablesOf(text: string): { group: string; found: string; wanted: string }[] {
  return Array.from(text.matchAll(block), ([, , group = '', found = '']) => ({
    ...{ group, found },
    wanted: render(group),
  }))
}

function render(group: string): string {
  const shown = all.filter((option) => option.group === group)
  if (shown.length === 0) throw new Error(`--help has no group ${group}`)
  const rows = shown.map((option) => {
    const cells = [`\`${option.flags}\``, option.default, option.description]
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  })
  return `\n| option | default | |\n|---|---|---|\n${rows.join('')}\n`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const text = readFileSync(page, 'utf8')
  writeFileSync(
    page,
    text.replaceAll(block, (_, begin: string, group: string, _found: string, end: string) => {
      return `${begin}${render(group)}${end}`
    }),
  )
}
