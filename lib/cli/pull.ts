import { Command } from 'commander'
import { readFamily } from '../checkpoint/selection.js'
import { isFolder } from '../files/regular_file.js'
import { checkModelId, type HubOptions, pullModel } from '../hub/hub.js'
import { pipelineOptions } from '../options/pipeline.js'
import { megabytes } from './megabytes.js'
import { commandOption } from './options.js'
import { TransferLine } from './transfer_line.js'

interface PullCommandOptions {
  revision?: string
  variant?: string
  cacheDir?: string
  token?: string
  textEncoder?: string
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
    .description('download or update a model from Hugging Face; print its folder in the cache')
    .argument('<model>', 'owner/name, such as ali-vilab/text-to-video-ms-1.7b')
    .addOption(commandOption(pipelineOptions.revision))
    .addOption(commandOption(pipelineOptions.variant))
    .addOption(commandOption(pipelineOptions.cacheDir))
    .addOption(commandOption(pipelineOptions.token))
    .addOption(commandOption(pipelineOptions.textEncoder))
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'do not show progress')
    .exitOverride()
    .action(async (model: string, options: PullCommandOptions) => {
      const { json, quiet, textEncoder, revision, variant, ...from } = options
      const line = new TransferLine(process.stderr, quiet === true)
      const signal = interrupted()
      const pull = (name: string, what: Pick<HubOptions, 'revision' | 'variant' | 'part'>) =>
        pullModel(name, {
          ...{ ...from, ...what, signal },
          onDownload: ({ commit, license, bytes, freeBytes }) => {
            const terms = license ?? 'no licence named in its model card'
            process.stderr.write(
              `${name} ${commit.slice(0, 8)} · ${megabytes(bytes)} to get, ${megabytes(freeBytes)} free · licence: ${terms}\n`,
            )
          },
          onProgress: (progress) => line.update(progress),
        }).finally(() => line.clear())
      const fetched = textEncoder !== undefined && !(await isFolder(textEncoder))
      if (fetched) checkModelId(textEncoder, 'textEncoder')
      const part = textEncoder === undefined ? undefined : ({ without: 'textEncoder' } as const)
      const pulled = await pull(model, { revision, variant, part })
      if (fetched)
        await pull(textEncoder, { part: { textEncoderOf: await readFamily(model, pulled.folder) } })
      process.stdout.write(json ? `${JSON.stringify({ model, ...pulled }, null, 2)}\n` : `${pulled.folder}\n`)
    })
}
