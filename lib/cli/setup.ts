import { Command } from 'commander'
import { planSetup, type SetupOptions, type SetupPlan, setupLibtorch } from '../setup/setup.js'
import { variants } from '../setup/variant.js'
import { megabytes } from './megabytes.js'
import { TransferLine } from './transfer_line.js'

interface SetupCommandOptions extends SetupOptions {
  dryRun?: boolean
  quiet?: boolean
}

/**
 * `torchreel setup`: libtorch's folder on stdout; what will be done, and how it gets on, on stderr.
 *
 * @param interrupted makes the signal that Ctrl-C aborts
 */
export function setupCommand(interrupted: () => AbortSignal): Command {
  return new Command('setup')
    .description('get libtorch into the cache, unless it is there; prints its folder')
    .option('--variant <name>', `${variants.join(', ')} (default: by what the machine has)`)
    .option('--from <file>', 'take it from a zip of libtorch or a wheel of torch that is here')
    .option('--use-python', 'use the torch that python3 has, where it lies')
    .option('--dry-run', 'say what would be done and from where, and do nothing')
    .option('--quiet', 'no progress')
    .exitOverride()
    .action(async ({ dryRun, quiet, ...options }: SetupCommandOptions) => {
      const plan = await planSetup(options)
      if (dryRun) {
        process.stdout.write(planText(plan))
        return
      }
      if (plan.sources.length > 0) process.stderr.write(planText(plan))
      const line = new TransferLine(process.stderr, quiet === true)
      const folder = await setupLibtorch(plan, {
        onOutput: (chunk) => {
          line.clear()
          if (!quiet) process.stderr.write(chunk)
        },
        onProgress: (progress) => line.update(progress),
        signal: interrupted(),
      }).finally(() => line.clear())
      process.stdout.write(`${folder}\n`)
    })
}

function planText({ nvidia, variant, reason, sources, target, freeBytes, present }: SetupPlan): string {
  const gpus = nvidia?.gpus
    .map(({ name, memoryBytes }) => `, ${name} with ${megabytes(memoryBytes)}`)
    .join('')
  const rows = [
    ['machine', nvidia ? `NVIDIA driver ${nvidia.driver}${gpus}` : 'no NVIDIA driver'],
    ['there', present ? `libtorch ${present.version} in ${present.folder}` : 'no libtorch that works'],
    ['variant', `${variant ?? 'any'}: ${reason}`],
    ...sources.map(({ description }, i) => [i === 0 ? 'from' : 'else from', description]),
    ['to', sources.length > 0 ? `${target} (${megabytes(freeBytes)} are free)` : 'nothing to do'],
  ]
  return rows.map(([name = '', text]) => `${name.padEnd(10)}${text}\n`).join('')
}
