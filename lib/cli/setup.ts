import { Command } from 'commander'
import { type FfmpegPlan, planFfmpeg, setupFfmpeg } from '../setup/ffmpeg.js'
import type { Source } from '../setup/install.js'
import { type LibtorchOptions, type LibtorchPlan, planLibtorch, setupLibtorch } from '../setup/libtorch.js'
import { variants } from '../setup/variant.js'
import { megabytes } from './megabytes.js'
import { TransferLine } from './transfer_line.js'

interface SetupCommandOptions extends LibtorchOptions {
  ffmpeg: boolean
  dryRun?: boolean
  quiet?: boolean
}

/**
 * `torchreel setup`: prints libtorch's folder on stdout, and the plan and the progress on stderr.
 *
 * @param interrupted makes the signal that Ctrl-C aborts
 */
export function setupCommand(interrupted: () => AbortSignal): Command {
  return new Command('setup')
    .description('install libtorch and ffmpeg if they are missing; print the folder of libtorch')
    .option('--variant <name>', `${variants.join(', ')} (default: the one for the GPU's driver, else cpu)`)
    .option('--from <file>', 'use this zip of libtorch or wheel of torch')
    .option('--use-python', 'use the torch of python3 where it is, without a copy')
    .option('--no-ffmpeg', 'do not install ffmpeg')
    .option('--dry-run', 'only list the downloads, with sources and target folders')
    .option('--quiet', 'do not show progress')
    .exitOverride()
    .action(async ({ ffmpeg: withFfmpeg, dryRun, quiet, ...options }: SetupCommandOptions) => {
      const libtorch = await planLibtorch(options)
      const ffmpeg = withFfmpeg ? await planFfmpeg() : undefined
      const plan = planText(libtorch, ffmpeg)
      if (dryRun) {
        process.stdout.write(plan)
        return
      }
      if (libtorch.sources.length > 0 || ffmpeg?.sources.length) process.stderr.write(plan)
      const line = new TransferLine(process.stderr, quiet === true)
      const reporting = {
        onOutput: (chunk: string) => {
          line.clear()
          if (!quiet) process.stderr.write(chunk)
        },
        onProgress: (progress: { file: string; bytes: number; totalBytes: number }) => line.update(progress),
        signal: interrupted(),
      }
      try {
        process.stdout.write(`${await setupLibtorch(libtorch, reporting)}\n`)
        if (ffmpeg) await setupFfmpeg(ffmpeg, reporting)
      } finally {
        line.clear()
      }
    })
}

function planText(libtorch: LibtorchPlan, ffmpeg: FfmpegPlan | undefined): string {
  const { nvidia, variant, reason, present } = libtorch
  const gpus = nvidia?.gpus
    .map(({ name, memoryBytes }) => `, ${name} with ${megabytes(memoryBytes)}`)
    .join('')
  const rows = [
    ['machine', nvidia ? `NVIDIA driver ${nvidia.driver}${gpus}` : 'no NVIDIA driver'],
    ['libtorch', present ? `${present.version} in ${present.folder}` : 'none that works'],
    ['variant', `${variant ?? 'any'}: ${reason}`],
    ...sourceRows(libtorch, libtorch.freeBytes),
  ]
  if (ffmpeg) {
    const { present } = ffmpeg
    rows.push([
      'ffmpeg',
      present ? `${present.version} in ${present.path} (${present.source})` : 'none that works',
    ])
    rows.push(...sourceRows(ffmpeg, libtorch.freeBytes))
  }
  return rows.map(([name = '', text]) => `${name.padEnd(13)}${text}\n`).join('')
}

/** From where and to where; nothing if there is nothing to do. */
function sourceRows(plan: { sources: readonly Source[]; target: string }, freeBytes: number): string[][] {
  if (plan.sources.length === 0) return []
  return [
    ...plan.sources.map(({ name, description }, i) => [
      i === 0 ? '  from' : '  else from',
      `${name}: ${description}`,
    ]),
    ['  to', `${plan.target} (${megabytes(freeBytes)} free)`],
  ]
}
