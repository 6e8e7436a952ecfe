import { Command } from 'commander'
import { type Check, examine } from '../machine/doctor.js'

/** `torchreel doctor`: what is there, and what to do about what is not. Exit code 1 when something is not ok. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('look at what torchreel needs and can use here, and say what to do about what is missing')
    .option('--json', 'print it as JSON')
    .exitOverride()
    .action(async ({ json }: { json?: boolean }) => {
      const checks = await examine()
      const ok = checks.every((check) => check.ok)
      process.stdout.write(json ? `${JSON.stringify({ ok, checks }, null, 2)}\n` : checks.map(line).join(''))
      if (!ok) process.exitCode = 1
    })
}

function line({ name, ok, found, advice }: Check): string {
  const head = `${ok ? 'ok' : 'no'}  ${name.padEnd(10)}${found}\n`
  return advice === undefined ? head : `${head}${`→ ${advice.trim()}`.replace(/^/gm, '              ')}\n`
}
