import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access, chmod, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { delimiter, dirname, join, resolve, sep } from 'node:path'
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { unlessAborted } from '../abort.js'
import { TorchreelError } from '../errors.js'
import { readPath } from '../files/paths.js'
import { refusedPermission } from '../files/permission.js'
import { isFile, whyRefused } from '../files/regular_file.js'
import { cacheAdvice, cacheFolder, findCacheFolder } from '../machine/cache.js'

/** An ffmpeg that was found and has answered. */
export interface Ffmpeg {
  /** Absolute path of the executable. */
  readonly path: string
  /** As ffmpeg states it, such as `7.0.2-static`. */
  readonly version: string
  /** Where it was found. */
  readonly source: FfmpegSource
  /** The major version of its libavformat, such as 61 for ffmpeg 7; 0: it does not say. */
  readonly libavformat: number
  /** The names of the encoders it has. */
  readonly encoders: ReadonlySet<string>
}

/** The answer of an ffmpeg. */
type Answer = Pick<Ffmpeg, 'version' | 'libavformat' | 'encoders'>

export type FfmpegSource =
  | 'option'
  | 'FFMPEG_PATH'
  | 'FFMPEG_BIN'
  | 'ffmpeg-static'
  | 'PATH'
  | '@ffmpeg-installer/ffmpeg'
  | 'torchreel setup'

/** A place to look: a file to try, or the reason why there is none. */
interface Candidate {
  readonly source: FfmpegSource
  readonly path?: string
  readonly reason?: string
}

const answerTimeoutMs = 10_000
const stderrTailLength = 4096

/** Answers by path. A failure is not kept: the next call tries again. */
const answers = new Map<string, Promise<Answer>>()

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** The folder of the ffmpeg that `torchreel setup` gets. */
export function ffmpegFolder(): string {
  return join(cacheFolder(), 'ffmpeg')
}

/**
 * Finds ffmpeg: `option`, then `FFMPEG_PATH` or `FFMPEG_BIN`, then the package ffmpeg-static, then `PATH`, then the
 * package @ffmpeg-installer/ffmpeg, then the cache of `torchreel setup`. An ffmpeg that the caller or the environment names is
 * used or refused. The others are tried in turn; one that lacks the encoders is skipped.
 *
 * @param option path of an ffmpeg, or its name on `PATH`
 * @param encoders it must have one of these
 * @param signal ends the wait for an answer; rejects with its reason
 * @throws TorchreelError `ERR_ENCODER_NOT_FOUND`: its message lists every place tried, why it failed and what to type
 */
export async function findFfmpeg(
  option?: string | URL | undefined,
  encoders: readonly string[] = ['libx264'],
  signal?: AbortSignal,
): Promise<Ffmpeg> {
  const tried: string[] = []
  for await (const { source, path, reason } of candidates(option)) {
    if (path === undefined) {
      tried.push(`${source}: ${reason}`)
      continue
    }
    try {
      if (source === '@ffmpeg-installer/ffmpeg') await makeExecutable(path)
      const answer = await unlessAborted(ask(path), signal)
      requireEncoder(answer, encoders)
      return { path, source, ...answer }
    } catch (error) {
      signal?.throwIfAborted()
      tried.push(`${source}: ${path}: ${refusedPermission(error) ?? (error as Error).message}`)
    }
  }
  throw new TorchreelError(
    'ERR_ENCODER_NOT_FOUND',
    `no usable ffmpeg was found. Tried:\n${tried.map((line) => `  - ${line}\n`).join('')}` +
      'Get one with `npx torchreel setup`, `npm install ffmpeg-static` or `apt install ffmpeg`, or set FFMPEG_PATH to one.',
    { parameter: 'ffmpeg', expected: `an ffmpeg with ${encoders.join(' or ')}`, received: option },
  )
}

/**
 * Runs an executable to see whether it is an ffmpeg that writes mp4.
 *
 * @throws Error with the reason why it is not
 */
export async function tryFfmpeg(path: string): Promise<Answer> {
  const answer = await ask(path)
  requireEncoder(answer, ['libx264'])
  return answer
}

function requireEncoder(answer: Answer, encoders: readonly string[]): void {
  if (!encoders.some((name) => answer.encoders.has(name)))
    throw new Error(`it has no encoder ${encoders.join(' or ')}`)
}

async function* candidates(option: string | URL | undefined): AsyncGenerator<Candidate> {
  const named = (['FFMPEG_PATH', 'FFMPEG_BIN'] as const).find((variable) => process.env[variable])
  if (option !== undefined) {
    yield* byName('option', readPath(option) ?? String(option))
  } else if (named !== undefined) {
    yield* byName(named, readPath(process.env[named]) ?? '')
  } else {
    yield packaged('ffmpeg-static', (require) => require.resolve('ffmpeg-static/package.json'))
    yield* byName('PATH', 'ffmpeg')
    yield packaged('@ffmpeg-installer/ffmpeg', (require) => {
      const facade = createRequire(require.resolve('@ffmpeg-installer/ffmpeg/package.json'))
      return facade.resolve(`@ffmpeg-installer/${process.platform}-${process.arch}/package.json`)
    })
    yield findCacheFolder() === undefined
      ? { source: 'torchreel setup', reason: `this user has no home folder. ${cacheAdvice}` }
      : { source: 'torchreel setup', path: join(ffmpegFolder(), 'ffmpeg') }
  }
}

/** A path as it is; a bare name in every folder of `PATH` that has it. */
async function* byName(source: FfmpegSource, name: string): AsyncGenerator<Candidate> {
  if (name.includes(sep)) {
    yield { source, path: resolve(name) }
    return
  }
  let found = false
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = resolve(folder, name)
    if (folder === '' || !(await isExecutable(path))) continue
    found = true
    yield { source, path }
  }
  if (!found) yield { source, reason: `no ${name} in any folder of PATH` }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}

/** The ffmpeg inside an npm package that the user installed: looked up from this package, then from the working folder. */
function packaged(source: FfmpegSource, locate: (require: NodeJS.Require) => string): Candidate {
  for (const base of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      return { source, path: join(dirname(locate(createRequire(base))), 'ffmpeg') }
    } catch {
      // Not installed there.
    }
  }
  return { source, reason: 'not installed' }
}

/** Does what the package's install script does, because npm may have blocked that script. */
async function makeExecutable(path: string): Promise<void> {
  if (!(await isExecutable(path))) await chmod(path, 0o755).catch(() => {})
}

function ask(path: string): Promise<Answer> {
  const known = answers.get(path)
  if (known) return known
  const answer = interrogate(path)
  answers.set(path, answer)
  answer.catch(() => answers.delete(path))
  return answer
}

async function interrogate(path: string): Promise<Answer> {
  const refused = whyRefused(path)
  if (refused !== undefined) throw new Error(`it ${refused}`)
  if (!(await isFile(path))) throw new Error('no such file')
  if (!(await isExecutable(path))) throw new Error(`not executable; type: chmod +x '${path}'`)
  const signal = AbortSignal.timeout(answerTimeoutMs)
  try {
    const [banner, list] = await Promise.all([
      captureFfmpeg(path, ['-version'], signal),
      captureFfmpeg(path, ['-v', 'error', '-encoders'], signal),
    ])
    const version = /^ffmpeg version (\S+)/.exec(banner)?.[1]
    if (version === undefined) throw new Error('it did not answer -version as ffmpeg does')
    const libavformat = Number(/^libavformat +(\d+)/m.exec(banner)?.[1] ?? 0)
    // A line of the list reads ` V..... libx264   libx264 H.264 / AVC …`.
    const encoders = new Set(Array.from(list.matchAll(/^ [A-Z.]{6} (\S+)/gm), ([, name]) => name as string))
    return { version, libavformat, encoders }
  } catch (error) {
    if (signal.aborted) throw new Error(`no answer to -version within ${answerTimeoutMs / 1000} s`)
    throw error
  }
}

/** What goes in and out of a run of ffmpeg. */
export interface FfmpegStreams {
  /** Written to stdin one at a time: the next is asked for when ffmpeg has taken the last. */
  readonly stdin?: Iterable<Uint8Array> | AsyncIterable<Uint8Array>
  /** Gets stdout. It is not ended: only the caller knows that all is well. */
  readonly stdout?: Writable
  /** An open file that ffmpeg reads as /dev/fd/3. It stays the caller's. */
  readonly file?: number | undefined
  /** Gets what ffmpeg writes to pipe:4. It is not ended either. */
  readonly report?: Writable
  readonly signal?: AbortSignal | undefined
}

/**
 * Runs ffmpeg to its end. However it ends, no child is left.
 *
 * @throws TorchreelError `ERR_ENCODER_FAILED` if it fails, is killed, or leaves before it has read everything;
 *   `signal.reason` if aborted; whatever `stdin` throws
 */
export async function runFfmpeg(
  path: string,
  parameters: readonly string[],
  { stdin, stdout, file, report, signal }: FfmpegStreams,
): Promise<void> {
  signal?.throwIfAborted()
  const child = spawn(path, parameters, {
    stdio: [
      ...([stdin ? 'pipe' : 'ignore', stdout ? 'pipe' : 'ignore', 'pipe'] as const),
      ...([file ?? 'ignore', report ? 'pipe' : 'ignore'] as const),
    ],
    windowsHide: true,
  })
  running.add(child)

  let stopped: { reason: unknown } | undefined
  const stop = (reason: unknown) => {
    stopped ??= { reason }
    child.kill('SIGKILL')
    // What ffmpeg started may hold the pipes; without this 'close' would wait for it.
    for (const stream of child.stdio) stream?.destroy()
  }
  const onAbort = () => stop(signal?.reason)
  signal?.addEventListener('abort', onAbort)

  let stderrTail = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    stderrTail = (stderrTail + chunk).slice(-stderrTailLength)
  })
  if (stdout) child.stdout?.pipe(stdout, { end: false })
  if (report) (child.stdio[4] as Readable).pipe(report, { end: false })
  // EPIPE: ffmpeg left early, and its exit code says why.
  child.stdin?.on('error', () => {})

  let fed = stdin === undefined
  try {
    const ended = new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on('error', reject)
      child.once('close', (...ending) => resolve(ending))
      // What ffmpeg started may hold its stderr open for as long as it likes.
      child.once('exit', () => setTimeout(() => child.stderr?.destroy(), 1000).unref())
    })
    if (stdin && child.stdin) {
      feed(child.stdin, stdin).then((complete) => {
        fed = complete
      }, stop)
    }
    const [exitCode, exitSignal] = await ended.catch((cause: Error) => {
      throw new TorchreelError('ERR_ENCODER_FAILED', `ffmpeg did not start: ${cause.message}`, {
        path,
        cause,
      })
    })
    if (stopped) throw stopped.reason
    if (exitCode === 0 && fed) return
    const ending = exitSignal !== null ? `was killed by ${exitSignal}` : `ended with exit code ${exitCode}`
    const early = fed ? '' : ' before it had read every frame'
    throw new TorchreelError('ERR_ENCODER_FAILED', `ffmpeg ${ending}${early}\n${stderrTail}`.trimEnd(), {
      exitCode,
      signal: exitSignal,
      stderrTail,
    })
  } finally {
    signal?.removeEventListener('abort', onAbort)
    running.delete(child)
  }
}

/** Runs ffmpeg and returns what it writes to stdout, as text. */
export async function captureFfmpeg(
  path: string,
  parameters: readonly string[],
  signal?: AbortSignal,
  file?: number,
): Promise<string> {
  const stdout = new PassThrough()
  const output = text(stdout)
  await runFfmpeg(path, parameters, { stdout, file, signal })
  stdout.end()
  return output
}

/** Writes the frames one by one; false if the reader went away. */
async function feed(
  stdin: Writable,
  frames: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<boolean> {
  for await (const frame of frames) {
    const error = await new Promise((resolve) => stdin.write(frame, resolve))
    if (error) return false
  }
  stdin.end()
  return true
}
