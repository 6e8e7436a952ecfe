import { readFileSync, realpathSync, statSync } from 'node:fs'
import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { expandHome } from '../files/paths.js'
import { exists, whyRefused } from '../files/regular_file.js'
import { cacheAdvice, cacheFolder, findCacheFolder } from './cache.js'

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

/** What to do when the libtorch of a source does not work. */
export const libtorchAdvice: Record<LibtorchSource, string> = {
  option: 'Set the option libtorch to another folder, or leave it out and type: npx torchreel setup',
  TORCHREEL_LIBTORCH: 'Set TORCHREEL_LIBTORCH to another folder, or unset it and type: npx torchreel setup',
  cache: 'Get it again with: npx torchreel setup',
}

/**
 * The folder of the libtorch that `torchreel setup` gets, named after its version. It holds an archive's `libtorch`, or `torch`
 * and the other packages of a `pip install --target`, or it is a link to the torch of a Python.
 */
export function cachedLibtorchFolder(): string {
  return path.join(cacheFolder(), `libtorch-${libtorchVersion}`)
}

/**
 * Finds libtorch: the option, then `TORCHREEL_LIBTORCH`, then the cache of `torchreel setup`. A named folder without libtorch
 * is an error; it is not skipped.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a named folder without libtorch; `ERR_LIBTORCH_NOT_FOUND` with every
 * place that was tried and the command that gets one
 */
export function findLibtorch(option?: string): Libtorch {
  const named = [
    ['option', 'libtorch', option],
    ['TORCHREEL_LIBTORCH', 'TORCHREEL_LIBTORCH', process.env.TORCHREEL_LIBTORCH || undefined],
  ] as const
  for (const [source, parameter, folder] of named) {
    if (folder === undefined) continue
    const found = libtorchIn(expandHome(folder))
    if (found) return { ...found, source }
    const expected = 'a folder with lib/libtorch_cpu.so'
    throw new TorchreelError(
      'ERR_INVALID_ARGUMENT',
      `${parameter} must be ${expected}, got ${folder}: ${whyNot(expandHome(folder))}. ${libtorchAdvice[source]}`,
      { parameter, expected, received: folder, path: folder },
    )
  }
  const folder = findCacheFolder() && cachedLibtorchFolder()
  const found = folder && libtorchIn(folder)
  if (found) return { ...found, source: 'cache' }
  throw new TorchreelError(
    'ERR_LIBTORCH_NOT_FOUND',
    'libtorch was not found. Tried:\n' +
      '  - option libtorch: not given\n' +
      '  - TORCHREEL_LIBTORCH: not set\n' +
      (folder ? `  - ${folder}: ${whyNot(folder)}\n` : '  - the cache: this user has no home folder\n') +
      (folder ? 'Get it with: npx torchreel setup' : `${cacheAdvice}, and type: npx torchreel setup`),
    { ...(folder && { path: folder }) },
  )
}

/** The libtorch in a folder: an unpacked archive, a `torch` package, or a folder that holds either. */
export function libtorchIn(folder: string): { folder: string; version: string } | undefined {
  for (const candidate of ['.', 'torch', 'libtorch'].map((name) => path.resolve(folder, name))) {
    if (!exists(path.join(candidate, 'lib', 'libtorch_cpu.so'))) continue
    // Resolved, because a process can load only one libtorch: two links to it must have one name.
    return { folder: realpathSync(candidate), version: versionOf(candidate) }
  }
  return undefined
}

/** Why `libtorchIn` found nothing there. */
function whyNot(folder: string): string {
  const refused = whyRefused(folder)
  if (refused !== undefined) return `it ${refused}`
  if (!exists(folder)) return 'no such folder'
  if (!statSync(folder).isDirectory()) return 'it is not a folder'
  return 'neither it nor torch/ or libtorch/ in it has a lib/libtorch_cpu.so'
}

/** The libraries to open, in order. Those of the CUDA distribution are opened where they exist. */
export function librariesOf({ folder }: { folder: string }): string[] {
  const names = ['libc10.so', 'libtorch_cpu.so', 'libc10_cuda.so', 'libtorch_cuda.so']
  return names.map((name) => path.join(folder, 'lib', name)).filter((library) => exists(library))
}

/** What a libtorch was built for: `cpu`, `cu130` and so on; `cuda` if its version does not say which. */
export function variantOf({ folder, version }: { folder: string; version: string }): string {
  const local = /\+(cpu|cu\d+)/.exec(version)?.[1]
  if (local) return local
  return exists(path.join(folder, 'lib', 'libtorch_cuda.so')) ? 'cuda' : 'cpu'
}

function versionOf(folder: string): string {
  const archive = path.join(folder, 'build-version')
  if (exists(archive)) return readFileSync(archive, 'utf8').trim()
  const wheel = path.join(folder, 'version.py')
  const version = exists(wheel) && /^__version__ = '([^']+)'/m.exec(readFileSync(wheel, 'utf8'))?.[1]
  if (version) return version
  throw new TorchreelError(
    'ERR_NATIVE_LOAD',
    `${folder} does not say which version of libtorch it is: it has neither build-version nor version.py`,
    { path: folder },
  )
}
