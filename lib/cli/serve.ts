import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import path from 'node:path'
import { Command } from 'commander'
import { TorchreelError } from '../errors.js'

const server = 'torchreel-server'

/** `torchreel serve …`: starts the package torchreel-server, which has the server, with the words that follow. */
export function serveCommand(): Command {
  return new Command('serve')
    .description(`start ${server}: videos over HTTP and a web page (a package of its own)`)
    .argument('[options...]', `the options of ${server}`)
    .allowUnknownOption()
    .helpOption(false) // --help is the server's
    .exitOverride()
    .action((words: string[]) => run(findServer(), words))
}

/**
 * The program of the package: installed in the folder where this command runs, or beside torchreel.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
function findServer(): string {
  for (const from of [path.join(process.cwd(), 'here.js'), import.meta.url]) {
    try {
      const require = createRequire(from)
      const file = require.resolve(`${server}/package.json`)
      const { bin } = require(file) as { bin: Record<string, string> }
      return path.join(path.dirname(file), bin[server] as string)
    } catch {}
  }
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `the server is a package of its own: npm install ${server}, or npx ${server}`,
    { parameter: 'serve' },
  )
}

/** Becomes the other program, as far as that goes: its output, its signals, its exit code. */
async function run(program: string, words: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [program, ...words], { stdio: 'inherit' })
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => child.kill(name))
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (...end) => resolve(end))
  })
  process.exitCode = code ?? 128 + constants.signals[signal as NodeJS.Signals]
}
