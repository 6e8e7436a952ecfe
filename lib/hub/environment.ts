import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { invalidArgument, TorchreelError } from '../errors.js'
import { expandHome } from '../files/paths.js'
import { userCacheFolder } from '../machine/cache.js'

/** `$HF_HOME`, else `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`; undefined: this user has no home. */
function huggingFaceHome(): string | undefined {
  const { HF_HOME } = process.env
  if (HF_HOME) return path.resolve(expandHome(HF_HOME))
  const folder = userCacheFolder()
  return folder === undefined ? undefined : path.join(folder, 'huggingface')
}

/** The cache of Python's huggingface_hub: `$HF_HUB_CACHE`, else `hub` in Hugging Face's home; undefined: there is none. */
export function findHubCache(): string | undefined {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env
  const configured = HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE
  if (configured) return path.resolve(expandHome(configured))
  const home = huggingFaceHome()
  return home === undefined ? undefined : path.join(home, 'hub')
}

/**
 * {@link findHubCache}, for what cannot do without.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function hubCacheFolder(): string {
  const folder = findHubCache()
  if (folder !== undefined) return folder
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    'there is no cache of models: this user has no home folder. Set HOME or HF_HOME to a folder, or give cacheDir',
    { parameter: 'HF_HOME', expected: 'a folder', received: process.env.HF_HOME },
  )
}

/** `$HF_ENDPOINT`, else huggingface.co. */
export function endpoint(): URL {
  const address = process.env.HF_ENDPOINT || 'https://huggingface.co'
  if (URL.canParse(address) && /^https?:$/.test(new URL(address).protocol)) return new URL(address)
  throw invalidArgument('HF_ENDPOINT', 'an https address', address)
}

/** Whether `HF_HUB_OFFLINE` forbids the network. */
export function isOffline(): boolean {
  const { HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE } = process.env
  return /^(1|on|yes|true)$/i.test(HF_HUB_OFFLINE || TRANSFORMERS_OFFLINE || '')
}

/** The token: the option, else `HF_TOKEN`, else the file that `hf auth login` writes. */
export async function findToken(option: string | false | undefined): Promise<string | undefined> {
  if (option === false) return undefined
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH } = process.env
  const stored = async () => {
    const home = huggingFaceHome()
    const file = HF_TOKEN_PATH ? expandHome(HF_TOKEN_PATH) : home && path.join(home, 'token')
    return file ? readFile(file, 'utf8').catch(() => '') : ''
  }
  const token = option ?? (HF_TOKEN || HUGGING_FACE_HUB_TOKEN || (await stored()))
  if (typeof token === 'string' && /^[\x21-\x7e]*$/.test(token.trim())) return token.trim() || undefined
  // The message shows nothing of the value, which is a secret.
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    'token is not a valid Hugging Face token: it must be printable ASCII without spaces',
    { parameter: 'token', expected: 'a Hugging Face token (hf_…)', received: 'something else' },
  )
}
