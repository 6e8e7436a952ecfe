#!/usr/bin/env node
import { constants } from 'node:os'
import { Command, CommanderError } from 'commander'
import { invalidArgument, TorchreelError } from '../errors.js'
import { generate, type OneCallOptions } from '../generate.js'
import type { Progress } from '../options/call.js'
import { version } from '../package.js'
import { schedulerNames } from '../schedulers/index.js'
import { checkSave, type Video, type VideoSaveOptions } from '../video/video.js'
import {
  frameWindow,
  freeU,
  interval,
  lora,
  numbers,
  numeric,
  oneOrMore,
  textualInversion,
  tiling,
} from './arguments.js'
import { doctorCommand } from './doctor.js'
import { modelsCommand } from './models.js'
import { ProgressBar } from './progress_bar.js'
import { pullCommand } from './pull.js'
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
  $ torchreel setup                                      get libtorch into the cache
  $ torchreel pull damo-vilab/text-to-video-ms-1.7b      get a model into the cache
  $ torchreel models                                     what is in the cache
  $ torchreel doctor                                     what works here, and what to do about the rest

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (by SIGTERM 143, SIGHUP 129)`

interface CommandLineOptions
  extends Omit<OneCallOptions, 'signal' | 'onProgress' | 'loras' | 'textualInversions' | 'output'>,
    Omit<VideoSaveOptions, 'signal' | 'ffmpegArguments'> {
  output: string
  lora?: OneCallOptions['loras']
  textualInversion?: OneCallOptions['textualInversions']
  contactSheet?: string
  ffmpegArgument?: string[]
  json?: boolean
  quiet?: boolean
}

function commandLine(): Command {
  const program = new Command('torchreel')
    .description('Make a video of a text: the ModelScope text-to-video model, without Python.')
    .version(version)
    .argument('<prompt>', 'what the video shows')
    .option(
      '-m, --model <model>',
      "a checkpoint's folder, owner/name on Hugging Face, or shapes (default: text-to-video-ms-1.7b if it is in the cache, " +
        'else shapes, which comes with torchreel)',
    )
    .option('-o, --output <file>', '.mp4, .webm, .gif, .webp, .apng, frame_%04d.png', 'torchreel.mp4')
    .optionsGroup('The video:')
    .option('--frames <n>', 'frames of the video (default: 16)', numeric)
    .option('--width <pixels>', "width (default: the model's own)", numeric)
    .option('--height <pixels>', "height (default: the model's own)", numeric)
    .option('--fps <n>', 'frames per second (default: 8)', numeric)
    .option('--seed <n>', 'the same seed gives the same video (default: chosen and printed)', numeric)
    .option('--negative-prompt <text>', 'what the video should not show')
    .optionsGroup('Denoising:')
    .option('--steps <n>', 'denoising steps (default: 25)', numeric)
    .option(
      '--guidance-scale <x[,x...]>',
      "how strongly the prompt guides, or how strongly in each step (default: the model's own, else 9; 15 with --video)",
      oneOrMore,
    )
    .option('--scheduler <name>', `checkpoint, or ${schedulerNames.join(', ')}`)
    .option('--timesteps <t,...>', 'timesteps of your own, one for each step, falling from 999', numbers)
    .option('--sigmas <s,...>', 'noise levels of your own, one for each step and one for the end', numbers)
    .option('--eta <x>', 'noise of DDIM and TCD, 0 to 1 (default: 0)', numeric)
    .option('--clip-skip <n>', "skip the text encoder's last layers (default: 0)", numeric)
    .option('--free-u <s1,s2,b1,b2>', 'FreeU, such as 0.9,0.2,1.2,1.4 (default: off)', freeU)
    .option(
      '--window <frames[:overlap]>',
      'for long videos: how many frames the network sees at a time, and how many windows share',
      frameWindow,
    )
    .optionsGroup('Less time, and a video that is a little another:')
    .option(
      '--feature-cache <n>',
      'compute the inner blocks of the network on every n-th call only (default: 1)',
      numeric,
    )
    .option('--guidance-interval <from,to>', 'guide only in these of the steps, such as 0.2,0.8', interval)
    .optionsGroup('Video to video:')
    .option('--video <file>', 'start from this video: its frames and size, unless others are given')
    .option('--strength <x>', 'how much of that video to give up, 0 to 1 (default: 0.6)', numeric)
    .optionsGroup('Adapters:')
    .option('--lora <file[:scale]>', 'a LoRA in safetensors; may be given several times', lora)
    .option(
      '--textual-inversion <file[:word]>',
      'a textual inversion in safetensors, and the word for it; may be given several times',
      textualInversion,
    )
    .optionsGroup('The model:')
    .option('--variant <name>', 'which weight files, such as fp16')
    .option('--revision <name>', 'a branch, a tag or a commit of the model (default: main)')
    .option('--local-files-only', 'download nothing')
    .option('--cache-dir <folder>', "the cache of models (default: HF_HUB_CACHE, else Hugging Face's own)")
    .option('--token <token>', 'for gated and private models (default: HF_TOKEN)')
    .option('--verify', 'compare the weights with their sha256 before they are loaded')
    .option('--trust-graph', "run the TorchScript graphs in the checkpoint's graphs/")
    .optionsGroup('The machine:')
    .option('--device <name>', 'auto, cpu, cuda or cuda:N (default: auto)')
    .option('--dtype <name>', 'float16, bfloat16 or float32 (default: by device)')
    .option(
      '--offload <mode>',
      'none, model: one network on the device at a time, or sequential: two of its blocks',
    )
    .option('--capture-graph', 'record a step as a CUDA graph and repeat it')
    .option(
      '--compiled-denoiser <file>',
      'the UNet as models/export.py --compile made it for this machine and size',
    )
    .option(
      '--vae-tiling [pixels[:overlap]]',
      'encode and decode large frames in tiles, in less memory (default: off; tiles of 512 that share 0.25)',
      tiling,
    )
    .option('--threads <n>', 'CPU threads (default: as many as this process may keep busy)', numeric)
    .option('--libtorch <folder>', 'the libtorch to load')
    .optionsGroup('The file:')
    .option('--overwrite', 'replace the output file if it exists')
    .option('--crf <n>', 'rate factor of mp4 and webm: lower is better and larger', numeric)
    .option('--bitrate <n>', 'bits per second, in place of a rate factor', numeric)
    .option('--quality <n>', 'quality of a webp, 0 to 100', numeric)
    .option('--codec <name>', 'of a webm: vp9, vp8 or av1')
    .option('--pixel-format <name>', 'yuv420p, yuv422p or yuv444p')
    .option('--ffmpeg <file>', 'the ffmpeg to use')
    .option('--ffmpeg-argument <argument...>', "more of ffmpeg's encoder settings, as pairs")
    .option('--no-metadata', "do not write how the video was made into the file's comment")
    .option('--sidecar', 'write how the video was made as JSON beside it')
    .option('--contact-sheet <file>', 'write all frames as one .png, too')
    .optionsGroup('What is printed:')
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'no progress')
    .addHelpText('after', examples)
    .showSuggestionAfterError()
    .enablePositionalOptions() // else this command takes the options of the others
    .exitOverride()
    .action(async (prompt: string, options: CommandLineOptions) => makeVideo(prompt, options))
  program.addCommand(pullCommand(interruptSignal))
  program.addCommand(modelsCommand())
  program.addCommand(setupCommand(interruptSignal))
  program.addCommand(doctorCommand())
  return program
}

async function makeVideo(prompt: string, options: CommandLineOptions): Promise<void> {
  const { output, contactSheet, overwrite, sidecar, metadata, ffmpegArgument, ...rest } = options
  const { crf, bitrate, quality, codec, pixelFormat, json = false, quiet = false, ...more } = rest
  const { lora: loras, textualInversion: textualInversions, ...call } = more
  const signal = interruptSignal()
  const file = { path: output, overwrite, metadata, sidecar, crf, bitrate, quality, codec, pixelFormat }
  const sheet: VideoSaveOptions = { overwrite, metadata, signal }
  // A save that cannot work fails now, not after minutes.
  if (contactSheet !== undefined && !contactSheet.endsWith('.png'))
    throw invalidArgument('contactSheet', 'a file name that ends in .png', contactSheet)
  if (contactSheet) await checkSave(contactSheet, { frameCount: 1 }, sheet)

  const bar = new ProgressBar(process.stderr, quiet)
  let video: Video
  try {
    const onProgress = (progress: Progress) => bar.update(progress)
    const more = { loras, textualInversions, signal, onProgress }
    video = await generate(prompt, { ...call, ...more, output: { ...file, ffmpegArguments: ffmpegArgument } })
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
 * Aborts on Ctrl-C, or when the terminal is closed. A job that does not stop soon is left with the process; files in the
 * making are removed.
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

/** Names in files from strangers may hold what moves a terminal's cursor. */
const printable = (text: string) => text.replace(/[^\P{Cc}\n]/gu, '\ufffd')

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageError
  const text = printable(error instanceof Error ? error.message : String(error))
  const code = error instanceof TorchreelError ? error.code : undefined
  process.stderr.write(`torchreel: ${text}${code ? ` [${code}]` : ''}\n`)
  return code === 'ERR_INVALID_ARGUMENT' ? usageError : 1
}

// Whoever reads the output may stop; a disk that takes it may be full.
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
