import { homedir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { TorchreelError } from '../errors.js'

/** This user's home; undefined: there is none, as for a user without an entry in passwd and without HOME. */
export function homeFolder(): string | undefined {
  try {
    const home = homedir()
    return path.isAbsolute(home) ? home : undefined
  } catch {
    return undefined
  }
}

/**
 * The path that a path or a file URL names, with the user's home for a `~` at its start. Shells expand `~` only at the
 * start of a word; options, variables of services and `--option=~/x` still have it. Undefined: it is neither.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for a `~` of a user without a home
 */
export function readPath(value: unknown): string | undefined {
  const given = isUrl(value) ? value.href : value
  if (typeof given !== 'string' || given === '' || given.includes('\0')) return undefined
  if (isUrl(value) || given.startsWith('file://')) {
    try {
      return fileURLToPath(given)
    } catch {
      return undefined
    }
  }
  return expandHome(given)
}

/** @throws TorchreelError `ERR_INVALID_ARGUMENT` for a `~` of a user without a home */
export function expandHome(name: string): string {
  if (!/^~(?=$|\/)/.test(name)) return name
  const home = homeFolder()
  if (home !== undefined) return home + name.slice(1)
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `${name}: this user has no home folder. Set HOME, or write the whole path`,
    {
      parameter: 'HOME',
      expected: 'an absolute path',
      received: process.env.HOME,
    },
  )
}

/** Whether this is a URL of any realm: test runners and sandboxes have classes of their own. */
export function isUrl(value: unknown): value is URL {
  const { href, protocol } = (value ?? {}) as Partial<URL>
  return typeof value === 'object' && typeof href === 'string' && typeof protocol === 'string'
}
