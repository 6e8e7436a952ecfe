import { Command } from 'commander'
import { pullModel } from '../hub/hub.js'
import { megabytes } from './megabytes.js'
import { TransferLine } from './transfer_line.js'

interface PullCommandOptions {
  revision?: string
  variant?: string
  cacheDir?: string
  token?: string
  json?: boolean
  quiet?: boolean
}

/**
 * `torchreel pull owner/name`: the folder on stdout; licence and progress on stderr.
 *
 * @param interrupted makes the signal that Ctrl-C aborts
 */
export function pullCommand(interrupted: () => AbortSignal): Command {
  return new Command('pull')
    .description(
      'download a model from Hugging Face into its cache, or bring it up to date; prints its folder',
    )
    .argument('<model>', 'owner/name, such as ali-vilab/text-to-video-ms-1.7b')
    .option('--revision <name>', 'a branch, a tag or a commit (default: main)')
    .option('--variant <name>', 'which weight files, such as fp16 (default: those without a variant)')
    .option('--cache-dir <folder>', "the cache (default: HF_HUB_CACHE, else Hugging Face's own)")
    .option(
      '--token <token>',
      'for gated and private models (default: HF_TOKEN, else what `hf auth login` stored)',
    )
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'no progress')
    .exitOverride()
    .action(async (model: string, { json, quiet, ...options }: PullCommandOptions) => {
      const line = new TransferLine(process.stderr, quiet === true)
      const pulled = await pullModel(model, {
        ...options,
        signal: interrupted(),
        onDownload: ({ commit, license, bytes }) => {
          const terms = license ?? 'no licence named in its model card'
          process.stderr.write(
            `${model} ${commit.slice(0, 8)} · ${megabytes(bytes)} to get · licence: ${terms}\n`,
          )
        },
        onProgress: (progress) => line.update(progress),
      }).finally(() => line.clear())
      process.stdout.write(json ? `${JSON.stringify({ model, ...pulled }, null, 2)}\n` : `${pulled.folder}\n`)
    })
}
