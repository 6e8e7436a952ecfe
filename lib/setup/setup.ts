import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { invalidArgument, TorchreelError } from '../errors.js'
import { identityPattern, isDead, ownIdentity } from '../files/process_identity.js'
import {
  cachedLibtorchFolder,
  cacheFolder,
  findLibtorch,
  libtorchIn,
  libtorchVersion,
  variantOf,
} from '../machine/libtorch.js'
import { findNvidia, freeBytes, type Nvidia, requirePlatform } from '../machine/machine.js'
import { archive, archiveMirror, file, pip, python, type Reporting, type Source } from './sources.js'
import { verify } from './try_libtorch.js'
import { checkVariant, chooseVariant } from './variant.js'

export interface SetupOptions {
  /** What libtorch is to be built for. @defaultValue by what the machine has */
  variant?: string | undefined
  /** A zip or wheel to take it from. */
  from?: string | undefined
  /** Takes the torch of the installed Python. */
  usePython?: boolean | undefined
}

/** What a set-up will do. Nothing has been fetched or written. */
export interface SetupPlan {
  readonly nvidia: Nvidia | undefined
  /** Such as `cu130`; for a file or Python, what is in there. */
  readonly variant: string | undefined
  /** Why this variant. */
  readonly reason: string
  /** Tried one after the other. None: what is present stays. */
  readonly sources: readonly Source[]
  /** Where it will lie. */
  readonly target: string
  readonly freeBytes: number
  /** What lies there now and works. */
  readonly present: { folder: string; version: string } | undefined
}

/**
 * Looks at the machine, at what is asked for and at what is there already.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`; `ERR_NATIVE_LOAD` for a platform that cannot run it
 */
export async function planSetup({ variant, from, usePython }: SetupOptions): Promise<SetupPlan> {
  requirePlatform()
  if ([variant, from, usePython || undefined].filter((option) => option !== undefined).length > 1)
    throw invalidArgument('setup', 'one of --variant, --from and --use-python', 'several')
  const wanted = variant === undefined ? undefined : checkVariant(variant)
  if (from !== undefined && !(await stat(from).catch(() => undefined))?.isFile())
    throw invalidArgument('from', 'a zip of libtorch or a wheel of torch', from)

  const target = cachedLibtorchFolder()
  const common = { target, freeBytes: await freeBytes(target) }
  if (process.env.TORCHREEL_LIBTORCH && !wanted && !from && !usePython) {
    const present = findLibtorch()
    const reason = 'TORCHREEL_LIBTORCH names it'
    return { ...common, nvidia: undefined, variant: variantOf(present), reason, sources: [], present }
  }
  const present = await presentIn(target)
  const nvidia = await findNvidia()
  if (from !== undefined || usePython) {
    const source = from === undefined ? python() : file(from)
    const reason = 'whatever it holds'
    return { ...common, nvidia, variant: undefined, reason, sources: [source], present }
  }
  const choice = wanted ? { variant: wanted, reason: 'asked for' } : chooseVariant(nvidia)
  const has = present && variantOf(present)
  if (has !== undefined && (wanted === undefined || wanted === has))
    return { ...common, nvidia, variant: has, reason: 'it is there', sources: [], present }
  // A mirror that the user names is where to go. Else pip first: it knows the user's mirrors.
  const sources = [...(archiveMirror() ? [] : [pip(choice.variant)]), archive(choice.variant)]
  return { ...common, nvidia, ...choice, sources, present }
}

/**
 * Does what was planned. What came is opened in a child process before it takes the place of what lay there.
 *
 * @returns the libtorch folder
 * @throws TorchreelError `ERR_LIBTORCH_NOT_FOUND` with why each source failed; `signal.reason`
 */
export async function setupLibtorch(
  { sources, target, present, variant }: SetupPlan,
  reporting: Reporting,
): Promise<string> {
  if (sources.length === 0 && present) return present.folder
  const incoming = await folderForIncoming()
  const failures: string[] = []
  try {
    for (const source of sources) {
      const folder = path.join(incoming, source.name)
      try {
        reporting.onOutput(`getting libtorch from ${source.name}: ${source.description}\n`)
        await source.get(folder, reporting)
        await verify(folder)
        const came = libtorchIn(folder) as { folder: string; version: string }
        await replace(target, folder, incoming)
        const { folder: found } = libtorchIn(target) as { folder: string }
        const other = variant !== undefined && variantOf(came) !== variant ? `, not ${variant}` : ''
        reporting.onOutput(`libtorch ${came.version} (${variantOf(came)}${other}) is in ${found}\n`)
        return found
      } catch (error) {
        reporting.signal?.throwIfAborted()
        failures.push(`  - ${source.name}, ${source.description}: ${(error as Error).message}\n`)
        reporting.onOutput(`${source.name} gave no usable libtorch: ${(error as Error).message}\n`)
      }
    }
  } finally {
    await rm(incoming, { recursive: true, force: true })
  }
  throw new TorchreelError(
    'ERR_LIBTORCH_NOT_FOUND',
    `libtorch ${libtorchVersion} could not be had. Tried:\n${failures.join('')}` +
      'Get one elsewhere and type: npx torchreel setup --from FILE (a zip of libtorch or a wheel of torch), or let ' +
      'TORCHREEL_LIBTORCH name a folder that has one',
    { path: target },
  )
}

/** The libtorch in the cache, unless it is broken. */
async function presentIn(target: string): Promise<{ folder: string; version: string } | undefined> {
  try {
    const found = libtorchIn(target)
    if (found) await verify(found.folder, { core: false })
    return found
  } catch {
    return undefined
  }
}

const incomingName = new RegExp(`^incoming-(${identityPattern})-`)

/** Beside the target, so that renaming at the end is all that is left to do. What dead processes left is removed. */
async function folderForIncoming(): Promise<string> {
  try {
    await mkdir(cacheFolder(), { recursive: true })
    for (const name of await readdir(cacheFolder())) {
      const owner = incomingName.exec(name)?.[1]
      if (owner && isDead(owner)) await rm(path.join(cacheFolder(), name), { recursive: true, force: true })
    }
    return await mkdtemp(path.join(cacheFolder(), `incoming-${ownIdentity}-`))
  } catch (cause) {
    throw new TorchreelError(
      'ERR_LIBTORCH_NOT_FOUND',
      `${cacheFolder()} cannot be written to (${(cause as NodeJS.ErrnoException).code}). Let XDG_CACHE_HOME name a folder ` +
        'that can, or TORCHREEL_LIBTORCH one that has a libtorch',
      { path: cacheFolder(), cause },
    )
  }
}

/** Puts a folder in the place of another, which programs that have opened it keep until they end. */
async function replace(target: string, folder: string, trash: string): Promise<void> {
  const before = path.join(trash, `before-${randomBytes(4).toString('hex')}`)
  await rename(target, before).catch(() => {})
  await rename(folder, target).catch((error: NodeJS.ErrnoException) => {
    if (!libtorchIn(target)) throw error // another process was first: its libtorch is as good
  })
}
