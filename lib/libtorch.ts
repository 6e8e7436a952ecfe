import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { invalidArgument, TorchreelError } from './errors.js'

/** The libtorch that `torchreel setup` gets, and the one this package is tested with. */
export const libtorchVersion = '2.13.0'

/** A libtorch on this machine. */
export interface Libtorch {
  /** The folder with `lib/libtorch_cpu.so`. */
  readonly folder: string
  /** Such as `2.13.0+cpu` or `2.13.0+cu130`. */
  readonly version: string
  /** Which of the places it was found in. */
  readonly source: 'option' | 'TORCHREEL_LIBTORCH' | 'cache'
}

/** Where `torchreel setup` puts things: `$XDG_CACHE_HOME/torchreel`, or `~/.cache/torchreel`. */
export function cacheFolder(): string {
  return path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'torchreel')
}

/** The folder of the libtorch that `torchreel setup` gets. A whole `pip install --target`: `torch` lies in it. */
export function cachedLibtorchFolder(): string {
  return path.join(cacheFolder(), `libtorch-${libtorchVersion}`)
}

/**
 * Finds libtorch: the option, then `TORCHREEL_LIBTORCH`, then what `torchreel setup` put into its cache. A place that is
 * named but holds no libtorch is an error, not passed over.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a named folder without libtorch, `ERR_LIBTORCH_NOT_FOUND` with the
 * command that gets it
 */
export function findLibtorch(option?: string): Libtorch {
  const named = [
    ['option', 'libtorch', option],
    ['TORCHREEL_LIBTORCH', 'TORCHREEL_LIBTORCH', process.env.TORCHREEL_LIBTORCH || undefined],
  ] as const
  for (const [source, parameter, folder] of named) {
    if (folder === undefined) continue
    const found = libtorchIn(folder)
    if (!found) throw invalidArgument(parameter, 'a folder with lib/libtorch_cpu.so', folder)
    return { ...found, source }
  }
  const folder = cachedLibtorchFolder()
  const found = libtorchIn(folder)
  if (found) return { ...found, source: 'cache' }
  throw new TorchreelError(
    'ERR_LIBTORCH_NOT_FOUND',
    `libtorch was not found: no option libtorch, no TORCHREEL_LIBTORCH, and nothing in ${folder}. ` +
      'Get it with: npx torchreel setup',
    { path: folder },
  )
}

/** The libtorch in a folder: an unpacked archive, a `torch` package, or a folder that holds a `torch` package. */
export function libtorchIn(folder: string): { folder: string; version: string } | undefined {
  for (const candidate of [path.resolve(folder), path.resolve(folder, 'torch')]) {
    if (!existsSync(path.join(candidate, 'lib', 'libtorch_cpu.so'))) continue
    return { folder: candidate, version: versionOf(candidate) }
  }
  return undefined
}

/** The libraries to open, in order. What only the CUDA distribution has is opened where it is there. */
export function librariesOf(libtorch: Libtorch): string[] {
  const names = ['libc10.so', 'libtorch_cpu.so', 'libc10_cuda.so', 'libtorch_cuda.so']
  return names.map((name) => path.join(libtorch.folder, 'lib', name)).filter((library) => existsSync(library))
}

function versionOf(folder: string): string {
  const archive = path.join(folder, 'build-version')
  if (existsSync(archive)) return readFileSync(archive, 'utf8').trim()
  const wheel = path.join(folder, 'version.py')
  const version = existsSync(wheel) && /^__version__ = '([^']+)'/m.exec(readFileSync(wheel, 'utf8'))?.[1]
  if (version) return version
  throw new TorchreelError('ERR_NATIVE_LOAD', `${folder} does not say which version of libtorch it is`, {
    path: folder,
  })
}
