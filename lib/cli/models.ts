import path from 'node:path'
import { Command } from 'commander'
import { readPath } from '../files/paths.js'
import { type CachedModel, listModels } from '../hub/cached_models.js'
import { findHubCache } from '../hub/environment.js'
import { pipelineOptions } from '../options/pipeline.js'
import { megabytes } from './megabytes.js'
import { commandOption } from './options.js'

/** `torchreel models`: the text-to-video models in the Hugging Face cache, and which of them run. */
export function modelsCommand(): Command {
  return new Command('models')
    .description('list the text-to-video models in the Hugging Face cache and say whether each can run')
    .addOption(commandOption(pipelineOptions.cacheDir))
    .option('--json', 'print the list as JSON')
    .exitOverride()
    .action(async ({ cacheDir, json }: { cacheDir?: string; json?: boolean }) => {
      const given = readPath(cacheDir) ?? findHubCache()
      const folder = given && path.resolve(given)
      const models = await listModels(folder)
      const place = folder ?? 'the cache: this user has no home folder, set HOME or HF_HOME'
      if (json) process.stdout.write(`${JSON.stringify(models, null, 2)}\n`)
      else if (models.length === 0) process.stderr.write(`torchreel: no text-to-video model in ${place}\n`)
      else process.stdout.write(table(models))
    })
}

function table(models: CachedModel[]): string {
  const rows = models.map((model) => [
    model.model,
    model.revisions.join(', ') || model.commit.slice(0, 8),
    megabytes(model.bytes),
    model.problem
      ? `does not run: ${model.problem.message} [${model.problem.code}]`
      : `runs${variantsOf(model)}`,
  ])
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] as string).length)))
  return rows
    .map((row) => `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}\n`)
    .join('')
}

/** Such as ` (also --variant fp16)`. */
function variantsOf({ variants }: CachedModel): string {
  const named = variants.filter((variant) => variant !== '')
  if (named.length === 0) return ''
  return variants.includes('') ? ` (also --variant ${named.join(', ')})` : ` (--variant ${named.join(', ')})`
}
