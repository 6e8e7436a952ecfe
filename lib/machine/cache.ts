import { homedir } from 'node:os'
import path from 'node:path'

/** Where `torchreel setup` puts things: `$XDG_CACHE_HOME/torchreel`, or `~/.cache/torchreel`. */
export function cacheFolder(): string {
  return path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'torchreel')
}
