// Runs the commands `pull` and `models` in a process of their own. argv: the arguments after `torchreel`.
import { Command } from 'commander'
import { modelsCommand } from '#dist/cli/models.js'
import { pullCommand } from '#dist/cli/pull.js'

try {
  const signal = new AbortController().signal
  await new Command()
    .addCommand(pullCommand(() => signal))
    .addCommand(modelsCommand())
    .parseAsync()
} catch (error) {
  const { code, message } = error as { code?: string; message: string }
  process.stderr.write(`${message} [${code}]\n`)
  process.exitCode = 1
}
