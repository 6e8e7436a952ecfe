import { stat } from 'node:fs/promises'
import { invalidArgument, TorchreelError } from '../errors.js'
import {
  cachedLibtorchFolder,
  findLibtorch,
  libtorchIn,
  libtorchVersion,
  variantOf,
} from '../machine/libtorch.js'
import { findNvidia, freeBytes, type Nvidia, requirePlatform } from '../machine/machine.js'
import { install, type Reporting, type Source } from './install.js'
import { archive, archiveMirror, file, pip, python } from './libtorch_sources.js'
import { tryLibtorch } from './try_libtorch.js'
import { checkVariant, chooseVariant } from './variant.js'

export interface LibtorchOptions {
  /** What libtorch is built for. @defaultValue by the GPU's driver, else `cpu` */
  variant?: string | undefined
  /** A zip of libtorch or a wheel of torch to use. */
  from?: string | undefined
  /** Use the torch of the installed Python. */
  usePython?: boolean | undefined
}

/** What a set-up will do about libtorch. Nothing has been fetched or written. */
export interface LibtorchPlan {
  readonly nvidia: Nvidia | undefined
  /** Such as `cu130`. Undefined: whatever the file or Python has. */
  readonly variant: string | undefined
  /** Why this variant. */
  readonly reason: string
  /** Tried one after the other. None: what is present stays. */
  readonly sources: readonly Source[]
  /** The folder in the cache, or the one that is there. */
  readonly target: string
  readonly freeBytes: number
  /** What is there now and works. */
  readonly present: { folder: string; version: string } | undefined
}

/**
 * Looks at the machine, the options and the cache.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`; `ERR_NATIVE_LOAD` for a platform that torchreel does not run on
 */
export async function planLibtorch({ variant, from, usePython }: LibtorchOptions): Promise<LibtorchPlan> {
  requirePlatform()
  if ([variant, from, usePython || undefined].filter((option) => option !== undefined).length > 1)
    throw new TorchreelError('ERR_INVALID_ARGUMENT', '--variant, --from and --use-python cannot be combined')
  const wanted = variant === undefined ? undefined : checkVariant(variant)
  if (from !== undefined && !(await stat(from).catch(() => undefined))?.isFile())
    throw invalidArgument('from', 'a zip of libtorch or a wheel of torch', from)

  if (process.env.TORCHREEL_LIBTORCH && !wanted && !from && !usePython) {
    const present = findLibtorch()
    const reason = 'set by TORCHREEL_LIBTORCH'
    const place = { target: present.folder, freeBytes: await freeBytes(present.folder) }
    return { ...place, nvidia: undefined, variant: variantOf(present), reason, sources: [], present }
  }
  const target = cachedLibtorchFolder()
  const common = { target, freeBytes: await freeBytes(target) }
  const present = await presentIn(target)
  const nvidia = await findNvidia()
  if (from !== undefined || usePython) {
    const source = from === undefined ? python() : file(from)
    const reason = 'as it comes'
    return { ...common, nvidia, variant: undefined, reason, sources: [source], present }
  }
  const choice = wanted ? { variant: wanted, reason: 'asked for' } : chooseVariant(nvidia)
  const has = present && variantOf(present)
  if (has !== undefined && (wanted === undefined || wanted === has))
    return { ...common, nvidia, variant: has, reason: 'already there', sources: [], present }
  // A mirror that the user named comes first. Without one, pip does: it knows the user's indexes.
  const sources = [...(archiveMirror() ? [] : [pip(choice.variant)]), archive(choice.variant)]
  return { ...common, nvidia, ...choice, sources, present }
}

/**
 * Does what was planned. What came is opened in a child process before it is put in place.
 *
 * @returns the libtorch folder
 * @throws TorchreelError `ERR_LIBTORCH_NOT_FOUND` with why each source failed; `signal.reason`
 */
export async function setupLibtorch(
  { sources, target, present, variant }: LibtorchPlan,
  reporting: Reporting,
): Promise<string> {
  if (sources.length === 0 && present) return present.folder
  const check = async (folder: string) => {
    await tryLibtorch(folder)
    return libtorchIn(folder) as { folder: string; version: string }
  }
  const what = `libtorch ${libtorchVersion}`
  const code = 'ERR_LIBTORCH_NOT_FOUND'
  const installation = { what, sources, target, check, code, advice: libtorchElsewhere } as const
  const { folder, version } = await install(installation, reporting)
  const came = variantOf({ folder, version })
  const other = variant !== undefined && came !== variant ? `, not ${variant}` : ''
  reporting.onOutput(`libtorch ${version} (${came}${other}) is in ${folder}\n`)
  return folder
}

const libtorchElsewhere =
  'If you have a zip of libtorch or a wheel of torch, type: npx torchreel setup --from FILE. If you have libtorch in a folder, ' +
  'set TORCHREEL_LIBTORCH to it'

/** The libtorch in the cache, if it works. */
async function presentIn(target: string): Promise<{ folder: string; version: string } | undefined> {
  try {
    const found = libtorchIn(target)
    if (found) await tryLibtorch(found.folder, { core: false })
    return found
  } catch {
    return undefined
  }
}
