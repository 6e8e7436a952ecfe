import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { refusedPermission } from '../files/permission.js'
import { exists } from '../files/regular_file.js'
import { packageFolder } from '../package.js'
import { type Libtorch, libtorchAdvice } from './libtorch.js'
import { glibcVersion } from './machine.js'

const require = createRequire(import.meta.url)

/**
 * The addon: build/Release/ of a clone, else prebuilds/.
 *
 * @throws TorchreelError `ERR_NATIVE_LOAD`
 */
export function addonFile(): string {
  try {
    return (require('node-gyp-build') as { path(folder: string): string }).path(packageFolder)
  } catch (error) {
    const refused = refusedPermission(error)
    if (refused) {
      const message = `node-gyp-build, which finds the addon, cannot read a file: ${refused}`
      throw new TorchreelError('ERR_NATIVE_LOAD', message, { path: packageFolder, cause: error })
    }
    const base = process.env.TORCHREEL_PREBUILD ?? packageFolder
    const tried = ['build/Release', `prebuilds/${process.platform}-${process.arch}`].map((name) => {
      const folder = path.join(base, name)
      return `  - ${folder}: ${exists(folder) ? 'no .node in it' : 'no such folder'}\n`
    })
    throw new TorchreelError(
      'ERR_NATIVE_LOAD',
      `torchreel has no addon. Tried:\n${tried.join('')}` +
        'The published package has one: npm install torchreel. In a clone of the repository: npm run build',
      { path: packageFolder, cause: error },
    )
  }
}

/** The minor versions of libtorch that have a core, such as `2.13`. */
export function coreVersions(addon: string): string[] {
  const names = readdirSync(path.dirname(addon))
  return names.flatMap((name) => /^torchreel_core-(.*)\.so$/.exec(name)?.[1] ?? [])
}

/**
 * The core for a version of libtorch. It lies beside the addon.
 *
 * @throws Error when there is none for its minor version
 */
export function coreFile(addon: string, version: string): string {
  const minor = /^\d+\.\d+/.exec(version)?.[0]
  const versions = coreVersions(addon)
  if (minor && versions.includes(minor)) return path.join(path.dirname(addon), `torchreel_core-${minor}.so`)
  throw new Error(`this torchreel is built for libtorch ${versions.join(', ') || 'none'}, not ${version}`)
}

/**
 * Refuses a library that is cut off: the loader would map it, and the process would die of SIGBUS. The loader reports all
 * other defects itself.
 *
 * @throws Error when it is shorter than its headers (ELF64, little-endian) state
 */
export function requireWhole(library: string): void {
  const file = openSync(library, 'r')
  try {
    const { size } = fstatSync(file)
    const header = Buffer.alloc(64)
    if (readSync(file, header, 0, 64, 0) < 64 || header.toString('latin1', 0, 4) !== '\x7fELF') return
    const start = Number(header.readBigUInt64LE(32))
    const segments = Buffer.alloc(header.readUInt16LE(56) * 56)
    let end = start + segments.length
    if (end <= size) readSync(file, segments, 0, segments.length, start)
    for (let at = 0; at < segments.length; at += 56)
      end = Math.max(end, Number(segments.readBigUInt64LE(at + 8) + segments.readBigUInt64LE(at + 32)))
    if (end > size) throw new Error(`${library} is cut off: ${size} of at least ${end} bytes`)
  } finally {
    closeSync(file)
  }
}

/** The error for a libtorch or core that does not load: the files, the loader's message, and what to do. */
export function loadError(cause: Error, libtorch: Libtorch, files: string[]): TorchreelError {
  const { folder, version, source } = libtorch
  const reason = cause.message
  let advice = libtorchAdvice[source]
  if (/already loaded/.test(reason)) advice = 'A process can load only one libtorch.'
  else if ((cause as NodeJS.ErrnoException).code === 'ERR_DLOPEN_DISABLED')
    advice = 'Node’s permission model refuses addons: start node with --allow-addons'
  else if (/--allow-ffi/.test(reason)) advice = 'Deno refuses addons: start deno with --allow-ffi'
  else if (/not built together/.test(reason))
    advice = 'Type: npm install torchreel, or in a clone: npm run build'
  else if (/version `GLIBC(XX)?_/.test(reason))
    advice = `glibc ${glibcVersion()} is too old for the prebuilt addon. Use a newer Linux, or build from source: \`npm run build\` in a clone.`
  else if (/lib(cu|nv|nccl)/.test(/^[^:]*/.exec(reason)?.[0].replace(folder, '') ?? ''))
    advice = 'This libtorch needs NVIDIA’s libraries. Get them with: npx torchreel setup --variant cu130'
  return new TorchreelError(
    'ERR_NATIVE_LOAD',
    `torchreel could not be loaded with libtorch ${version} (found by ${source}): ${reason}\nTried, in this order:\n` +
      files.map((file) => `  - ${file}${exists(file) ? '' : ' (missing)'}\n`).join('') +
      advice,
    { path: folder, cause },
  )
}
