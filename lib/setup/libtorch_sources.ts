import { mkdir, rm, symlink } from 'node:fs/promises'
import path from 'node:path'
import { unpack } from '../files/zip.js'
import { type Download, download, patience } from '../hub/download.js'
import { get } from '../hub/http.js'
import { cacheFolder } from '../machine/cache.js'
import { libtorchVersion } from '../machine/libtorch.js'
import type { Reporting, Source } from './install.js'
import { run } from './run.js'
import type { Variant } from './variant.js'

/** What `import torch` needs, so that `models/export.py` runs on the same folder. */
const pythonPackage = 'typing-extensions'

/**
 * `pip install --target`: obeys the user's indexes, mirrors and certificates, and checks their hashes. The torch wheel is a
 * whole libtorch. The wheel for CUDA needs NVIDIA's libraries, which are packages of their own, so its dependencies come too.
 */
export function pip(variant: Variant): Source {
  const index = `https://download.pytorch.org/whl/${variant}`
  const requirements =
    variant === 'cpu'
      ? ['--no-deps', `torch==${libtorchVersion}`, pythonPackage]
      : [`torch==${libtorchVersion}+${variant}`]
  // An extra index, not a replacement: this is the one that has this variant's builds.
  const parameters = ['-m', 'pip', 'install', ...requirements, '--extra-index-url', index]
  return {
    name: 'pip',
    description: `python3 ${parameters.join(' ')}, with your configuration of pip`,
    get: async (folder, { onOutput, signal }) => {
      await run(
        'python3',
        [...parameters, '--disable-pip-version-check', '--target', folder],
        onOutput,
        signal,
      )
    },
  }
}

/** The official archives whose sha256 is known: other projects pin the same, independently. */
const knownArchives: { readonly [variant in Variant]?: { size: number; hash: string } } = {
  cpu: { size: 126_385_248, hash: 'edbf4cbed78433d803e90a65f1752e57783d164bce66c95c0872b2ab8f5c159e' },
  cu130: { size: 500_687_821, hash: '945c5a3d946a28b387ad9dc9fddda7ba03e35fae1375b84ebff15df789436f82' },
}

/** `TORCHREEL_LIBTORCH_MIRROR`: where to get the archives instead of `https://download.pytorch.org/libtorch`. */
export function archiveMirror(): string | undefined {
  return process.env.TORCHREEL_LIBTORCH_MIRROR?.replace(/\/+$/, '') || undefined
}

/** The official archive: resumed where it broke off, checked by sha256 if that is known, else by its CRCs. */
export function archive(variant: Variant): Source {
  const base = archiveMirror() ?? 'https://download.pytorch.org/libtorch'
  const name = `libtorch-shared-with-deps-${libtorchVersion}+${variant}.zip`
  const url = `${base}/${variant}/${encodeURIComponent(name)}`
  return {
    name: 'archive',
    description: url,
    get: async (folder, reporting) => {
      const { onProgress, signal } = reporting
      const { size, hash } = knownArchives[variant] ?? {
        size: await sizeOf(new URL(url), signal),
        hash: undefined,
      }
      // Not in the folder, so that the next attempt can resume.
      const file = path.join(cacheFolder(), name)
      const onBytes = (bytes: number) => onProgress({ file: name, bytes, totalBytes: size })
      const job: Download = { url: new URL(url), file, size, hash, patience, onBytes, signal }
      await download(job)
      await unpackInto(folder, file, reporting).finally(() => rm(file))
    },
  }
}

/** A zip or a wheel that the user has. */
export function file(from: string): Source {
  return {
    name: 'file',
    description: path.resolve(from),
    get: async (folder, reporting) => unpackInto(folder, from, reporting),
  }
}

/** The torch of an installed Python. It stays where it is; the folder becomes a link to it. */
export function python(): Source {
  const script =
    'import importlib.util as u; s = u.find_spec("torch"); print(list(s.submodule_search_locations)[0] if s else "")'
  return {
    name: 'python',
    description: 'the torch that python3 has',
    get: async (folder, { signal }) => {
      const found = (await run('python3', ['-c', script], () => {}, signal)).trim()
      if (!found) throw new Error('python3 has no torch')
      await symlink(found, folder)
    },
  }
}

async function unpackInto(folder: string, file: string, { onProgress }: Reporting): Promise<void> {
  await mkdir(folder)
  const name = `unpacking ${path.basename(file)}`
  await unpack(file, folder, (bytes, totalBytes) => onProgress({ file: name, bytes, totalBytes })).catch(
    (error: Error) => {
      throw new Error(`${path.basename(file)}: ${error.message}`, { cause: error })
    },
  )
}

/** The size of a file on a server, in bytes. */
async function sizeOf(url: URL, signal: AbortSignal | undefined): Promise<number> {
  const response = await get(url, { headers: { range: 'bytes=0-0' }, signal, stallMs: patience.stallMs })
  response.destroy()
  const { 'content-range': range, 'content-length': length } = response.headers
  const size = Number(response.statusCode === 206 ? range?.split('/')[1] : length)
  if (Number.isInteger(size)) return size
  throw new Error(`${url.host} does not say how large ${url.pathname} is`)
}
