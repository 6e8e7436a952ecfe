import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { expandHome, homeFolder } from '../files/paths.js'

/** What to do about a missing cache. */
export const cacheAdvice = 'Set HOME or XDG_CACHE_HOME to a folder'

/** `$XDG_CACHE_HOME`, else `~/.cache`; undefined: neither is there. The base directory specification ignores relative paths. */
export function userCacheFolder(): string | undefined {
  const configured = expandHome(process.env.XDG_CACHE_HOME ?? '')
  if (path.isAbsolute(configured)) return configured
  const home = homeFolder()
  return home === undefined ? undefined : path.join(home, '.cache')
}

/** Where `torchreel setup` puts things: `torchreel` in the user's cache; undefined: this user has none. */
export function findCacheFolder(): string | undefined {
  const folder = userCacheFolder()
  return folder === undefined ? undefined : path.join(folder, 'torchreel')
}

/**
 * {@link findCacheFolder}, for what cannot do without.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function cacheFolder(): string {
  const folder = findCacheFolder()
  if (folder !== undefined) return folder
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    `torchreel has no cache: this user has no home folder. ${cacheAdvice}`,
    {
      parameter: 'XDG_CACHE_HOME',
      expected: 'an absolute path',
      received: process.env.XDG_CACHE_HOME,
    },
  )
}
