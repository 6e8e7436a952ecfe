import { readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import path from 'node:path'
import { buffer } from 'node:stream/consumers'
import { crc32 } from 'node:zlib'
import type { NativeCompiledDenoiser } from '../addon/interface.js'
import { invalidArgument, TorchreelError } from '../errors.js'
import type { CheckedGenerateOptions } from '../options/call.js'
import type { SourceWishes } from '../video/read/source_video.js'

/** What a UNet's step was compiled for: the fields that models/compile_denoiser.py writes. */
interface Made {
  /** sha256 of the graph whose step it is. */
  readonly graph: string
  /** Such as `2.13.0+cpu`. */
  readonly torch: string
  readonly device: string
  readonly dtype: string
  /** Of the video, or of a window. */
  readonly frames: number
  /** Pixels. */
  readonly height: number
  readonly width: number
  /** Pixels per latent in each direction. */
  readonly scale: number
  /** L of each prompt. */
  readonly tokens: number
  /** Whether the network runs on the negative prompt and the prompt, or on the prompt alone. */
  readonly guidance: boolean
  /** Flags of the processor that its code may need. */
  readonly instructionSets: readonly string[]
}

/** A UNet's step as machine code, read and not yet run. */
export interface CompiledDenoiser {
  readonly file: string
  /** The shared library. */
  readonly library: Buffer
  /** JSON for libtorch: the operators that it calls by name. */
  readonly operators: string | undefined
  readonly made: Made
}

/** Far more than a step's code. */
const maxBytes = 2 ** 30

/**
 * Reads a package that `models/export.py --compile` wrote. Only one with its code ready: no compiler is ever run.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`
 */
export async function readCompiledDenoiser(file: string): Promise<CompiledDenoiser> {
  const status = await stat(file).catch(() => undefined)
  if (!status?.isFile())
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `there is no file ${file} with a compiled denoiser`, {
      path: file,
      parameter: 'compiledDenoiser',
    })
  try {
    const entries = await readEntries(file)
    const libraries = [...entries.keys()].filter((name) => name.endsWith('.so'))
    const [name] = libraries
    if (name === undefined || libraries.length > 1) throw new Error(`it holds ${libraries.length} libraries`)
    const stem = name.slice(0, -'.so'.length)
    const metadata = JSON.parse(String(entries.get(`${stem}_metadata.json`)))
    return {
      file,
      library: entries.get(name) as Buffer,
      operators: entries.get(`${stem}.json`)?.toString(),
      made: madeOf(JSON.parse(metadata.torchreel)),
    }
  } catch (error) {
    throw new TorchreelError(
      'ERR_MODEL_CORRUPT',
      `${file} is no package that models/export.py --compile writes: ${(error as Error).message}`,
      { path: file, parameter: 'compiledDenoiser', cause: error },
    )
  }
}

/** The package's libraries and what stands about them, by name. */
async function readEntries(file: string): Promise<Map<string, Buffer>> {
  const { openPromise } = await import('yauzl') // here, because few calls need what takes milliseconds to load
  const zip = await openPromise(file, { autoClose: false })
  try {
    const contents = new Map<string, Buffer>()
    for await (const entry of zip.eachEntry()) {
      const name = /(?:^|\/)data\/aotinductor\/model\/([^/]+\.(?:so|json))$/.exec(entry.fileName)?.[1]
      if (name === undefined) continue
      if (entry.uncompressedSize > maxBytes) throw new Error(`${name} is too large`)
      const content = await buffer(await zip.openReadStreamPromise(entry))
      if (crc32(content) !== entry.crc32) throw new Error(`${name} is damaged: its CRC-32 is another`)
      contents.set(name, content)
    }
    return contents
  } finally {
    zip.close()
  }
}

function madeOf(made: Made): Made {
  const { frames, height, width, scale, tokens, instructionSets } = made
  const complete =
    [made.graph, made.torch, made.device, made.dtype].every((word) => typeof word === 'string') &&
    [frames, height, width, scale, tokens].every((size) => Number.isSafeInteger(size) && size > 0) &&
    typeof made.guidance === 'boolean' &&
    Array.isArray(instructionSets)
  if (complete) return made
  throw new Error('it does not say what it was compiled for')
}

/**
 * Whether its code is for this model, libtorch and machine.
 *
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE`
 */
export function requireCompiledFor(
  { file, made }: CompiledDenoiser,
  here: { graph: string; vaeScale: number; libtorch: string; device: string; dtype: string },
): void {
  const refuse = (what: string, expected: string, received: string) => {
    throw new TorchreelError(
      'ERR_MODEL_INCOMPATIBLE',
      `${file} was compiled for ${what} ${received}, not ${expected}: compile it again with models/export.py`,
      { path: file, parameter: 'compiledDenoiser', expected, received },
    )
  }
  const minor = (version: string) => version.split('.', 2).join('.')
  if (minor(made.torch) !== minor(here.libtorch)) refuse('torch', here.libtorch, made.torch)
  const device = here.device.replace(/:\d+$/, '')
  if (made.device !== device) refuse('device', device, made.device)
  if (made.dtype !== here.dtype) refuse('dtype', here.dtype, made.dtype)
  if (made.graph !== here.graph) refuse('the graph', here.graph, made.graph)
  if (made.scale !== here.vaeScale) refuse('a VAE of the scale', `${here.vaeScale}`, `${made.scale}`)
  const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' '))
  const missing = made.instructionSets.filter((flag) => !flags.has(flag))
  if (missing.length > 0) refuse('a processor with', 'this machine’s', missing.join(', '))
}

/** A check of a call's options. */
const requireOf =
  (file: string) => (fits: boolean, parameter: string, expected: string, received: unknown) => {
    if (!fits)
      throw invalidArgument(parameter, `${expected} with compiledDenoiser ${path.basename(file)}`, received)
  }

/**
 * Whether a call runs the network in the one way that is compiled, whatever its size.
 *
 * @param guidance of each call of the network
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function requireCompiledCall(
  { file, made }: Pick<CompiledDenoiser, 'file' | 'made'>,
  call: CheckedGenerateOptions,
  guidance: Float64Array,
  positions: number,
): void {
  const require = requireOf(file)
  const { videos, promptEmbeds, freeU, featureCache, guidanceInterval } = call
  const tokens = promptEmbeds?.shape[1] ?? positions
  require(videos === 1, 'prompt', 'one prompt', videos)
  require(tokens === made.tokens, 'promptEmbeds', `of ${made.tokens} tokens`, tokens)
  const guided = `${made.guidance ? 'above' : 'at most'} 1 in all steps`
  const other = guidance.find((scale) => scale > 1 !== made.guidance)
  if (guidanceInterval) require(other === undefined, 'guidanceInterval', 'left out', guidanceInterval)
  require(other === undefined, 'guidanceScale', guided, other)
  require(freeU === undefined, 'freeU', 'left out', freeU)
  require(featureCache === 1, 'featureCache', '1 or left out', featureCache)
}

/**
 * Whether a call has the size that is compiled.
 *
 * @param call undefined in it is what the video will say that the call starts from
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function requireCompiledSize(
  { file, made }: Pick<CompiledDenoiser, 'file' | 'made'>,
  { frames, width, height, window }: SourceWishes & Pick<CheckedGenerateOptions, 'window'>,
): void {
  const require = requireOf(file)
  const seen = frames && Math.min(window?.frames ?? frames, frames)
  require((seen ?? made.frames) === made.frames, window ? 'window' : 'frames', `${made.frames}`, seen)
  require((width ?? made.width) === made.width, 'width', `${made.width}`, width)
  require((height ?? made.height) === made.height, 'height', `${made.height}`, height)
}

/** What the core takes. */
export function nativeCompiledDenoiser(
  { library, operators, made }: CompiledDenoiser,
  latentChannels: number,
): NativeCompiledDenoiser {
  const { frames, height, width, scale, guidance, tokens } = made
  const shape = [1, latentChannels, frames, height / scale, width / scale]
  return { library, operators, shape, texts: guidance ? 2 : 1, tokens }
}
