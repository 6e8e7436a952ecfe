import { readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { NativeCompiledDenoiser } from '../addon/interface.js'
import { TorchreelError } from '../errors.js'

/** What a denoiser's step was compiled for: the fields that models/compile_denoiser.py writes. */
interface Made {
  /** sha256 of the graph that it replaces. */
  readonly graph: string
  /** Such as `2.13.0+cpu`. */
  readonly torch: string
  readonly device: string
  readonly dtype: string
  /** Frames of the video, or of a window. */
  readonly frames: number
  /** Pixels. */
  readonly height: number
  readonly width: number
  /** Pixels per latent in each direction. */
  readonly scale: number
  /** L of each prompt. */
  readonly tokens: number
  /** True: each call is for the negative prompt and the prompt; false: for the prompt alone. */
  readonly guidance: boolean
  /** Processor flags that the code may need. */
  readonly instructionSets: readonly string[]
}

/** A denoiser's step as machine code, read and not yet run. */
export interface CompiledDenoiser {
  readonly file: string
  /** The shared library. */
  readonly library: Buffer
  /** JSON for libtorch: the operators that the code calls by name. */
  readonly operators: string | undefined
  readonly made: Made
}

/** Far more than the code of a step has. */
const maxBytes = 2 ** 30

/** A library or its description in a package. */
const codeFile = /(?:^|\/)data\/aotinductor\/model\/([^/]+\.(?:so|json))$/

/**
 * Reads a package that `models/export.py --compile` wrote. It must hold machine code: torchreel runs no compiler.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`
 */
export async function readCompiledDenoiser(file: string): Promise<CompiledDenoiser> {
  const status = await stat(file).catch(() => undefined)
  if (!status?.isFile()) {
    const message = status?.isDirectory()
      ? `compiledDenoiser: ${file} is a folder, not a file`
      : `there is no file ${file} with a compiled denoiser`
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', message, { path: file, parameter: 'compiledDenoiser' })
  }
  try {
    const { readEntries } = await import('../files/zip.js') // yauzl takes milliseconds to load, and few calls need it
    const entries = await readEntries(file, (name) => codeFile.exec(name)?.[1], maxBytes)
    const libraries = [...entries.keys()].filter((name) => name.endsWith('.so'))
    const [name] = libraries
    if (name === undefined || libraries.length > 1)
      throw new Error(`it has ${libraries.length} libraries instead of one`)
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
      `${file} is not a package of models/export.py --compile: ${(error as Error).message}`,
      { path: file, parameter: 'compiledDenoiser', cause: error },
    )
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
  throw new Error('its metadata does not say what it was compiled for')
}

/**
 * Refuses code that was compiled for another model, libtorch or machine.
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

/** What the core takes. */
export function nativeCompiledDenoiser(
  { library, operators, made }: CompiledDenoiser,
  latentChannels: number,
): NativeCompiledDenoiser {
  const { frames, height, width, scale, guidance, tokens } = made
  const shape = [1, latentChannels, frames, height / scale, width / scale]
  return { library, operators, shape, texts: guidance ? 2 : 1, tokens }
}
