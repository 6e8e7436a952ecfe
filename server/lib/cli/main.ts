#!/usr/bin/env node
import path from 'node:path'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { type Logger, pino } from 'pino'
import { makeFolder } from '../files/folder.js'
import { addKey } from '../http/keys.js'
import { defaultLimits, type ServerOptions, type SharedQueue } from '../options.js'
import { createServer, defaultData, version } from '../server.js'
import { openSharedQueue } from '../shared_queue.js'
import { createWorker } from '../worker.js'
import { mcpOfOwnServer, mcpOfServer } from './mcp.js'

interface CommandLine {
  model?: string[]
  alias?: string[]
  device?: string[]
  data: string
  port: number
  host: string
  hostName?: string[]
  origin?: string[]
  publicUrl?: string
  trustProxy?: boolean
  keys?: string
  newKey?: string
  admin?: boolean
  login: boolean
  page: boolean
  ffmpeg?: string
  loras?: string
  dtype?: string
  offload?: string
  threads?: number
  keepJobs: number
  keepDays?: number
  keepBytes?: number
  redis?: string
  files?: string
  s3?: string
  s3Redirect?: boolean
  cancelGrace: number
  drain?: boolean | number
  logLevel: string
  maxJson: number
  maxUpload: number
  maxPixels: number
  maxSteps: number
  maxWaiting: number
  maxUnfinished: number
  perMinute: number
  maxStreams: number
  maxRun: number
  maxRequest: number
}

const examples = `
Examples:
  $ torchreel-server                                                  serve shapes, the small model, to this machine
  $ torchreel-server --model damo-vilab/text-to-video-ms-1.7b --model shapes
  $ torchreel-server --new-key ann && torchreel-server --host 0.0.0.0 --keys ~/.local/share/torchreel-server/keys
  $ torchreel-server --device cuda:0 --device cuda:1                  one process for each device
  $ torchreel-server --redis redis://queue --s3 https://host/bucket   the videos are made by:
  $ torchreel-server worker --redis redis://queue --s3 https://host/bucket --model shapes

Ctrl-C ends the server. The running video is put back into the queue and made after the next start. With --drain, the server finishes this video before it ends.`

function commandLine(): Command {
  const several = (value: string, before: string[] = []) => [...before, value]
  const command = new Command('torchreel-server')
    .description('Serve text to video over HTTP, with a web page, on this machine.')
    .version(version)
    .optionsGroup('The models:')
    .option(
      '--model <[id=]model>',
      'a model: shapes, a folder, or owner/name on Hugging Face; repeat the option for more models (default: shapes)',
      several,
    )
    .option(
      '--alias <name=id>',
      'another name for a model: with sora-2=shapes, requests for sora-2 get the model shapes; repeat the option for more names',
      several,
    )
    .option(
      '--device <device>',
      'the device: auto, cpu, cuda:0 …; repeat the option for more devices, each with its own process (default: auto)',
      several,
    )
    .option(
      '--dtype <type>',
      'the number type of the computation: float16, bfloat16 or float32 (default: depends on the device)',
    )
    .option('--offload <mode>', 'how to save GPU memory: none, model or sequential (default: none)')
    .option(
      '--threads <n>',
      'processor threads of each model process (default: depends on the machine)',
      positive,
    )
    .option(
      '--loras <folder>',
      'the folder of LoRAs (safetensors files); requests may use only LoRAs from this folder (default: none)',
    )
    .option('--ffmpeg <file>', 'the path of ffmpeg (default: found automatically)')
    .optionsGroup('The address:')
    .option('--port <n>', 'the port; with 0, the server takes a free port', count, 8080)
    .option('--host <address>', 'the address to listen on', '127.0.0.1')
    .option(
      '--host-name <name>',
      'another host name of this server; repeat the option for more names',
      several,
    )
    .option(
      '--origin <url>',
      'the address of another web page that may use this server; repeat the option for more addresses',
      (value: string, before: string[] = []) => [...before, new URL(httpUrl(value)).origin],
    )
    .option('--public-url <url>', 'the address that clients use, if the server is behind a proxy', httpUrl)
    .option(
      '--trust-proxy',
      'read the address that clients use from the headers X-Forwarded-Host and X-Forwarded-Proto, which the proxy must set',
    )
    .option('--no-page', 'do not serve the web page')
    .optionsGroup('Keys:')
    .option(
      '--keys <file>',
      'a file of keys; every request then needs one of these keys (default: no keys, and only this machine can use the server)',
    )
    .option(
      '--new-key <name>',
      'make a key, print it, add its sha256 to the file of --keys, and exit; without --keys, the file is named keys and is in the folder of --data',
    )
    .option('--admin', 'with --new-key: the new key gives access to the videos of all keys')
    .option('--no-login', 'serve other machines without keys')
    .optionsGroup('What is kept:')
    .option(
      '--data <folder>',
      'the folder of the jobs and videos; no other server may use this folder',
      defaultData,
    )
    .option(
      '--keep-jobs <n>',
      'number of ended jobs to keep, without --redis; the oldest are removed first',
      positive,
      10_000,
    )
    .option(
      '--keep-days <n>',
      'days to keep a job after its end (default: for ever; with --redis, 30)',
      positive,
    )
    .option(
      '--keep-bytes <n>',
      'maximum bytes of kept videos, without --redis; the oldest are removed first (default: no limit)',
      positive,
    )
    .optionsGroup('Many machines:')
    .addOption(
      new Option(
        '--redis <url>',
        'the address of Redis, which has the shared queue; a server with --redis makes videos itself only if it also has --device',
      ).env('TORCHREEL_REDIS'),
    )
    .option(
      '--files <folder>',
      'with --redis: store the videos in this folder, which all machines must share',
    )
    .option(
      '--s3 <url>',
      'with --redis: store the videos in this bucket, https://HOST/BUCKET; set the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the keys of this bucket',
    )
    .option(
      '--s3-redirect',
      'with --s3: redirect clients that ask for a video to the bucket, instead of sending the video',
    )
    .optionsGroup('Limits:')
    .option(
      '--max-waiting <n>',
      'maximum number of videos that wait in the queue',
      positive,
      defaultLimits.waiting,
    )
    .option(
      '--max-unfinished <n>',
      'maximum number of videos of one key that wait or run',
      positive,
      defaultLimits.unfinished,
    )
    .option(
      '--per-minute <n>',
      'maximum number of videos that one key may ask for in a minute',
      positive,
      defaultLimits.perMinute,
    )
    .option(
      '--max-pixels <n>',
      'maximum number of pixels of a video: frames × width × height',
      positive,
      defaultLimits.pixels,
    )
    .option('--max-steps <n>', 'maximum number of denoising steps of a video', positive, defaultLimits.steps)
    .option('--max-upload <bytes>', 'maximum bytes of an uploaded video', positive, defaultLimits.upload)
    .option('--max-json <bytes>', 'maximum bytes of a JSON body', positive, defaultLimits.json)
    .option('--max-streams <n>', 'maximum number of open streams of events', positive, defaultLimits.streams)
    .option(
      '--max-run <seconds>',
      'maximum seconds to make one video, without the time in the queue',
      positive,
      defaultLimits.runMs / 1000,
    )
    .option(
      '--max-request <seconds>',
      'seconds in which a request must arrive completely',
      positive,
      defaultLimits.requestMs / 1000,
    )
    .option(
      '--cancel-grace <seconds>',
      'seconds in which a model process must stop a cancelled video; a process that takes longer is killed',
      positive,
      10,
    )
    .optionsGroup('The process:')
    .option(
      '--drain [seconds]',
      'seconds to wait for the running video before the server ends; if you give no number, an hour (default: do not wait; put the video back into the queue)',
      count,
    )
    .addOption(
      new Option('--log-level <level>', 'log messages of this level and of more important levels')
        .choices(['trace', 'debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .addHelpText('after', examples)
    .showSuggestionAfterError()
    .showHelpAfterError('torchreel-server --help lists the options')
    .exitOverride()
  command
    .command('worker')
    .description(
      'make videos for the servers that share a queue; many options of torchreel-server work here, too',
    )
    .option(
      '--lock <seconds>',
      'if a worker gives Redis no sign of life for this many seconds, another worker makes its video again',
      positive,
      60,
    )
    .option(
      '--grace <seconds>',
      'after SIGTERM, seconds that the worker waits for its running video; a video that takes longer is put back into the queue',
      count,
      30,
    )
    .action((_: object, own: Command) => work(own.optsWithGlobals()))
  command
    .command('mcp')
    .description('serve tools for an assistant on this machine (MCP over stdin and stdout)')
    .option(
      '--server <url>',
      'the address of a running server to use (default: start a server in this process, with the options of torchreel-server)',
      httpUrl,
    )
    .option('--key <key>', 'the key for that server (default: TORCHREEL_KEY)')
    .action((_: object, own: Command) => mcp(own.optsWithGlobals()))
  return command.action((options: CommandLine) => {
    if (options.newKey !== undefined) return newKey(options)
    if (options.admin) throw new InvalidArgumentError('--admin needs --new-key NAME')
    return serve(options)
  })
}

async function newKey({ data, keys, newKey: name = '', admin = false }: CommandLine): Promise<void> {
  const file = keys ?? path.join(data, 'keys')
  await makeFolder(path.dirname(path.resolve(file)))
  process.stdout.write(`${await addKey(file, name, admin)}\n`)
  process.stderr.write(
    `This is the key of ${name}. It is not kept; ${file} has its sha256.\nStart the server with --keys ${file}\n`,
  )
}

async function serve(options: CommandLine): Promise<void> {
  // Ctrl-C that comes while it starts counts, too.
  const asked = endAsked()
  const logger = pino({ level: options.logLevel }, pino.destination(2))
  const server = await createServer({
    ...serverOptions(options),
    ...(await queueOf(options, logger)),
    logger,
  })
  const address = await server.listen()
  process.stdout.write(`${address}\nVideos and jobs are in ${server.data}\n`)
  const { drain = 0 } = options
  await endOrFailure(asked, server)
  await server.close(drain === true ? defaultLimits.runMs : drain === false ? 0 : drain * 1000)
}

/**
 * Waits for the end that somebody asks for.
 *
 * @throws Error if the models cannot be loaded
 */
async function endOrFailure(
  asked: Promise<void>,
  running: { ready(): Promise<void>; close(grace: number): Promise<void> },
): Promise<void> {
  try {
    await Promise.race([asked, running.ready().then(() => asked)])
  } catch (error) {
    await running.close(0)
    throw error
  }
}

async function work(options: CommandLine & { grace: number; lock: number }): Promise<void> {
  const asked = endAsked()
  const logger = pino({ level: options.logLevel }, pino.destination(2))
  const { queue } = await queueOf(options, logger, options.lock * 1000)
  if (!queue) throw new Error('a worker needs --redis URL, the queue that it works for')
  const { data, maxPixels: pixels, grace } = options
  const worker = await createWorker({
    ...serverOptions(options),
    ...{ queue, data: path.resolve(data), pixels, logger },
  })
  await endOrFailure(asked, worker)
  await worker.close(grace * 1000)
}

async function queueOf(
  options: CommandLine,
  logger: Logger,
  lockFor?: number,
): Promise<{ queue?: SharedQueue }> {
  const { redis, files, s3, s3Redirect, keepDays, maxWaiting, maxRun } = options
  if (redis === undefined) {
    if (files !== undefined || s3 !== undefined) throw new Error('--files and --s3 need --redis')
    return {}
  }
  const limits = { waiting: maxWaiting, runMs: maxRun * 1000 }
  const linkSeconds = s3Redirect ? 300 : undefined
  return {
    queue: await openSharedQueue({ redis, files, s3, linkSeconds, keepDays, lockFor, limits, logger }),
  }
}

async function mcp(options: CommandLine & { server?: string; key?: string }): Promise<void> {
  const { server, key = process.env.TORCHREEL_KEY } = options
  const ended = new AbortController()
  void endAsked().then(() => ended.abort())
  if (server !== undefined) return mcpOfServer(server, key, ended.signal)
  const logger = pino({ level: options.logLevel }, pino.destination(2))
  return mcpOfOwnServer({ ...serverOptions(options), logger }, ended.signal)
}

/** Resolves at the first signal to end. A second one ends at once: everything that was accepted is on disk. */
function endAsked(): Promise<void> {
  return new Promise((resolve) => {
    let count = 0
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(name, () => {
        if (++count > 1) process.exit(130)
        resolve()
      })
  })
}

function serverOptions(options: CommandLine): ServerOptions {
  const { model, alias = [], device, host, port, data, page, login, hostName, origin, cancelGrace } = options
  const {
    dtype,
    offload,
    threads,
    keys,
    publicUrl,
    trustProxy,
    ffmpeg,
    loras,
    keepJobs,
    keepDays,
    keepBytes,
  } = options
  const aliases = alias.map((text) => {
    const [, name, id] = /^([^=]+)=(.+)$/.exec(text) ?? []
    if (name === undefined || id === undefined)
      throw new InvalidArgumentError(`--alias must be NAME=ID, got ${text}`)
    return [name, id] as const
  })
  return {
    ...{
      host,
      port,
      data,
      page,
      aliases: Object.fromEntries(aliases),
      keepJobs,
    },
    ...(model && { models: model }),
    ...(device && { devices: device }),
    ...(hostName && { hostNames: hostName }),
    ...(origin && { origins: origin }),
    ...(keys !== undefined && { keys }),
    ...(publicUrl !== undefined && { publicUrl }),
    ...(trustProxy !== undefined && { trustProxy }),
    ...(ffmpeg !== undefined && { ffmpeg }),
    ...(loras !== undefined && { loras: path.resolve(loras) }),
    ...(keepDays !== undefined && { keepDays }),
    ...(keepBytes !== undefined && { keepBytes }),
    noLogin: !login,
    cancelGrace: cancelGrace * 1000,
    pipeline: {
      ...(dtype !== undefined && { dtype }),
      ...(offload !== undefined && { offload }),
      ...(threads !== undefined && { threads }),
    },
    limits: {
      ...{ waiting: options.maxWaiting, unfinished: options.maxUnfinished, perMinute: options.perMinute },
      ...{
        pixels: options.maxPixels,
        steps: options.maxSteps,
        upload: options.maxUpload,
        json: options.maxJson,
      },
      ...{ streams: options.maxStreams, runMs: options.maxRun * 1000, requestMs: options.maxRequest * 1000 },
    },
  }
}

function httpUrl(text: string): string {
  if (!/^https?:$/.test(URL.canParse(text) ? new URL(text).protocol : ''))
    throw new InvalidArgumentError('It must be a URL, such as http://127.0.0.1:8080.')
  return text
}

function count(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value >= 0 && value < Number.MAX_SAFE_INTEGER))
    throw new InvalidArgumentError('It must be a number, at least 0.')
  return value
}

function positive(text: string): number {
  const value = count(text)
  if (value === 0) throw new InvalidArgumentError('It must be more than 0.')
  return value
}

try {
  await commandLine().parseAsync()
  process.exit()
} catch (error) {
  if (error instanceof CommanderError && error.exitCode === 0) process.exit(0)
  if (error instanceof CommanderError && !(error instanceof InvalidArgumentError)) process.exit(2)
  process.stderr.write(`torchreel-server: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(error instanceof InvalidArgumentError ? 2 : 1)
}
