#!/usr/bin/env node
import { constants } from 'node:os'
import { Command, CommanderError } from 'commander'
import type { DescribedOption } from '../checks/options.js'
import { nearest, renamedOption } from '../checks/suggestion.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import { generate } from '../generate.js'
import { callOptions } from '../options/call.js'
import { oneCallOptions, ownOptions } from '../options/one_call.js'
import { pipelineOptions } from '../options/pipeline.js'
import { version } from '../package.js'
import type { Progress } from '../progress.js'
import { checkSave, type Video, type VideoSaveOptions } from '../video/video.js'
import { saveOptions } from '../video/write/options.js'
import { doctorCommand } from './doctor.js'
import { modelsCommand } from './models.js'
import { commandOption, readOptions } from './options.js'
import { ProgressBar } from './progress_bar.js'
import { pullCommand } from './pull.js'
import { serveCommand } from './serve.js'
import { setupCommand } from './setup.js'

const usageError = 2

const examples = `
Examples:
  $ torchreel "a big red circle moving left" -o circle.mp4
  $ torchreel "Spiderman is surfing" --model damo-vilab/text-to-video-ms-1.7b -o surfing.mp4
  $ torchreel "a panda eating bamboo" --model ./zeroscope --width 576 --height 320 --frames 24 --seed 7 -o panda.webm
  $ torchreel "a red circle" --model ./model --scheduler checkpoint --steps 50 --json -o circle.gif
  $ torchreel "a panda, sharp" --model ./zeroscope-xl --video panda.webm --strength 0.7 --width 1024 --height 576 --vae-tiling
  $ torchreel "a boat" --frames 48 --window 16:8 --free-u 0.9,0.2,1.2,1.4 --lora watercolour.safetensors:0.8
  $ torchreel setup                                      install libtorch and ffmpeg
  $ torchreel pull damo-vilab/text-to-video-ms-1.7b      download a model
  $ torchreel models                                     list the downloaded models
  $ torchreel doctor                                     check the installation
  $ torchreel serve                                      start torchreel-server, if it is installed

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted (SIGTERM: 143, SIGHUP: 129)`

/** Adds the flag here to commander's message about an option that has diffusers' name, such as --num-inference-steps. */
function withReferenceName(message: string): string {
  const given = /^error: unknown option '--([\w-]+)'/.exec(message)?.[1]
  const name = given && renamedOption(given.replaceAll('-', '_'))
  if (!described.some(({ flag }) => flag?.split(' ').includes(`--${name}`))) return message
  return `${message.trimEnd()}\n(Did you mean --${name}?)\n`
}

/** What only the command line has, beside the options of `generate` and of the file. */
interface CommandLineOptions {
  contactSheet?: string
  json?: boolean
  quiet?: boolean
}

const { output, ...call } = callOptions
const { model, ...adapters } = ownOptions

/** The described options in the order of the help. */
const described = [{ model, output }, call, adapters, pipelineOptions, saveOptions]
  .flatMap((table) => Object.values<DescribedOption>(table))
  .filter(({ flag }) => flag !== undefined)

function commandLine(): Command {
  const program = new Command('torchreel')
    .description('Make a video from a prompt, without Python.')
    .version(version)
    .argument('<prompt>', 'a description of the video')
    .showHelpAfterError(
      'Type for example: torchreel "a big red circle moving left" -o circle.mp4, or torchreel --help',
    )
  for (const option of described) program.addOption(commandOption(option))
  program
    .optionsGroup('The file:')
    .option('--contact-sheet <file>', 'also write all frames into one .png')
    .optionsGroup('Messages:')
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'do not show progress')
    .addHelpText('after', examples)
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(withReferenceName(text)) })
    .allowExcessArguments() // checkPrompt refuses them, and says why
    .enablePositionalOptions() // else this command takes the options of the others
    .exitOverride()
    .action(async (prompt: string, options: CommandLineOptions) => {
      checkPrompt(program)
      await makeVideo(prompt, options)
    })
  program.addCommand(pullCommand(interruptSignal))
  program.addCommand(modelsCommand())
  program.addCommand(setupCommand(interruptSignal))
  program.addCommand(doctorCommand())
  program.addCommand(serveCommand())
  return program
}

/** Refuses a word that is one edit away from a command, which is mistyped, and a prompt without quotes. */
function checkPrompt(program: Command): void {
  const [first = '', ...more] = program.args
  const commands = program.commands.map((command) => command.name())
  const meant = nearest(first, commands, 1)
  if (meant !== undefined)
    program.error(
      `error: there is no command ${first}; did you mean "${meant}"? If it is a prompt, add a word.`,
    )
  if (more.length > 0) program.error(`error: put the prompt in quotes: "${program.args.join(' ')}"`)
}

async function makeVideo(prompt: string, options: CommandLineOptions): Promise<void> {
  const { contactSheet, json = false, quiet = false } = options
  const { output = 'torchreel.mp4', ...call } = readOptions(options, oneCallOptions)
  const file: VideoSaveOptions = readOptions(options, saveOptions)
  const signal = interruptSignal()
  const { overwrite, metadata } = file
  const sheet: VideoSaveOptions = { overwrite, metadata, signal }
  // A save that cannot work fails now, not after minutes.
  if (contactSheet !== undefined && !contactSheet.endsWith('.png'))
    throw invalidArgument('contactSheet', 'a file name that ends in .png', contactSheet)
  if (contactSheet) await checkSave(contactSheet, { frameCount: 1 }, sheet)

  const bar = new ProgressBar(process.stderr, quiet)
  const onProgress = (progress: Progress) => bar.update(progress)
  let video: Video
  try {
    video = await generate(prompt, { ...call, signal, onProgress, output: { ...file, path: String(output) } })
    if (contactSheet) await video.contactSheet().save(contactSheet, sheet)
  } finally {
    bar.clear()
  }
  for (const warning of video.warnings) process.stderr.write(`torchreel: ${printable(warning)}\n`)
  const result = { output: video.file, ...video.toJSON() }
  process.stdout.write(
    json
      ? `${JSON.stringify(result, null, 2)}\n`
      : `${video.file} (${printable(String(video.model))}, seed ${video.seed})\n`,
  )
}

/**
 * Aborts on Ctrl-C, or when the terminal is closed. Unfinished files are removed. A job that does not stop within half a
 * second ends with the process.
 */
function interruptSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => {
      const code = 128 + constants.signals[name]
      process.exitCode = code
      controller.abort(new Error('interrupted'))
      setTimeout(() => process.exit(code), 500)
    })
  }
  return controller.signal
}

/** Replaces control characters: names in untrusted files could move the terminal's cursor. */
const printable = (text: string) => text.replace(/[^\P{Cc}\n]/gu, '\ufffd')

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageError
  const text = printable(error instanceof Error ? error.message : String(error))
  const code = error instanceof TorchreelError ? error.code : undefined
  process.stderr.write(`torchreel: ${text}${code ? ` [${code}]` : ''}\n`)
  return code === 'ERR_INVALID_ARGUMENT' ? usageError : 1
}

// stdout may be closed early (EPIPE), or its disk may be full.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE') return
    process.exitCode = 1
    if (stream === process.stdout) process.stderr.write(`torchreel: stdout: ${message}\n`)
  })
}
try {
  await commandLine().parseAsync()
} catch (error) {
  // Interrupted: the handler has set the code.
  const code = Number(process.exitCode ?? 0) || exitCodeOf(error)
  // Not only exitCode: nothing is left to do, whatever a library keeps open.
  process.exit(code)
}
