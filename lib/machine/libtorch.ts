import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { TorchreelError } from '../errors.js'

/** The libtorch that `torchreel setup` gets, and the one this package is tested with. */
export const libtorchVersion = '2.13.0'

export type LibtorchSource = 'option' | 'TORCHREEL_LIBTORCH' | 'cache'

/** A libtorch on this machine. */
export interface Libtorch {
  /** The folder with `lib/libtorch_cpu.so`. */
  readonly folder: string
  /** Such as `2.13.0+cpu` or `2.13.0+cu130`. */
  readonly version: string
  /** Which of the places it was found in. */
  readonly source: LibtorchSource
}

/** What to type when the libtorch of a source does not work. */
export const libtorchAdvice: Record<LibtorchSource, string> = {
  option: 'Name another folder in the option libtorch, or leave it out and type: npx torchreel setup',
  TORCHREEL_LIBTORCH: 'Let TORCHREEL_LIBTORCH name another folder, or unset it and type: npx torchreel setup',
  cache: 'Get it anew with: npx torchreel setup',
}

/** Where `torchreel setup` puts things: `$XDG_CACHE_HOME/torchreel`, or `~/.cache/torchreel`. */
export function cacheFolder(): string {
  return path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'torchreel')
}

/**
 * Where the libtorch of `torchreel setup` lies or leads to, named after the version that this torchreel asks for. A whole
 * `pip install --target`: `torch` lies in it.
 */
export function cachedLibtorchFolder(): string {
  return path.join(cacheFolder(), `libtorch-${libtorchVersion}`)
}

/**
 * Finds libtorch: the option, then `TORCHREEL_LIBTORCH`, then what `torchreel setup` put into its cache. A place that is
 * named but holds no libtorch is an error, not passed over.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a named folder without libtorch, `ERR_LIBTORCH_NOT_FOUND` with every
 * place that was tried and the command that gets it
 */
export function findLibtorch(option?: string): Libtorch {
  const named = [
    ['option', 'libtorch', option],
    ['TORCHREEL_LIBTORCH', 'TORCHREEL_LIBTORCH', process.env.TORCHREEL_LIBTORCH || undefined],
  ] as const
  for (const [source, parameter, folder] of named) {
    if (folder === undefined) continue
    const found = libtorchIn(folder)
    if (found) return { ...found, source }
    const expected = 'a folder with lib/libtorch_cpu.so'
    throw new TorchreelError(
      'ERR_INVALID_ARGUMENT',
      `${parameter} must be ${expected}, got ${folder}: ${whyNot(folder)}. ${libtorchAdvice[source]}`,
      { parameter, expected, received: folder, path: folder },
    )
  }
  const folder = cachedLibtorchFolder()
  const found = libtorchIn(folder)
  if (found) return { ...found, source: 'cache' }
  throw new TorchreelError(
    'ERR_LIBTORCH_NOT_FOUND',
    'libtorch was not found. Tried:\n' +
      '  - option libtorch: not given\n' +
      '  - TORCHREEL_LIBTORCH: not set\n' +
      `  - ${folder}: ${whyNot(folder)}\n` +
      'Get it with: npx torchreel setup',
    { path: folder },
  )
}

/** The libtorch in a folder: an unpacked archive, a `torch` package, or a folder that holds either. */
export function libtorchIn(folder: string): { folder: string; version: string } | undefined {
  for (const candidate of ['.', 'torch', 'libtorch'].map((name) => path.resolve(folder, name))) {
    if (!existsSync(path.join(candidate, 'lib', 'libtorch_cpu.so'))) continue
    // One name for one libtorch, whatever links lead to it: a process takes no second one.
    return { folder: realpathSync(candidate), version: versionOf(candidate) }
  }
  return undefined
}

/** Why `libtorchIn` found nothing there. */
function whyNot(folder: string): string {
  try {
    if (!statSync(folder).isDirectory()) return 'it is no folder'
    return 'neither it nor torch/ or libtorch/ in it has a lib/libtorch_cpu.so'
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'ENOENT' ? 'no such folder' : `it cannot be read (${code})`
  }
}

/** The libraries to open, in order. What only the CUDA distribution has is opened where it is there. */
export function librariesOf({ folder }: { folder: string }): string[] {
  const names = ['libc10.so', 'libtorch_cpu.so', 'libc10_cuda.so', 'libtorch_cuda.so']
  return names.map((name) => path.join(folder, 'lib', name)).filter((library) => existsSync(library))
}

/** What a libtorch was built for: `cpu`, `cu130` and so on; `cuda` where it does not say which. */
export function variantOf({ folder, version }: { folder: string; version: string }): string {
  const local = /\+(cpu|cu\d+)/.exec(version)?.[1]
  if (local) return local
  return existsSync(path.join(folder, 'lib', 'libtorch_cuda.so')) ? 'cuda' : 'cpu'
}

function versionOf(folder: string): string {
  const archive = path.join(folder, 'build-version')
  if (existsSync(archive)) return readFileSync(archive, 'utf8').trim()
  const wheel = path.join(folder, 'version.py')
  const version = existsSync(wheel) && /^__version__ = '([^']+)'/m.exec(readFileSync(wheel, 'utf8'))?.[1]
  if (version) return version
  throw new TorchreelError(
    'ERR_NATIVE_LOAD',
    `${folder} does not say which version of libtorch it is: it has neither build-version nor version.py`,
    { path: folder },
  )
}
