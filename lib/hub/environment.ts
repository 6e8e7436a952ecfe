import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { invalidArgument, TorchreelError } from '../errors.js'

/** `$HF_HOME`, else `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`. */
function huggingFaceHome(): string {
  const { HF_HOME, XDG_CACHE_HOME } = process.env
  return expandHome(HF_HOME || path.join(XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'huggingface'))
}

/** The cache of Python's huggingface_hub: `$HF_HUB_CACHE`, else `hub` in Hugging Face's home. */
export function hubCacheFolder(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env
  return expandHome(HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || path.join(huggingFaceHome(), 'hub'))
}

function expandHome(folder: string): string {
  return path.resolve(folder.replace(/^~(?=$|\/)/, homedir()))
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
  const file = HF_TOKEN_PATH || path.join(huggingFaceHome(), 'token')
  const stored = async () => readFile(file, 'utf8').catch(() => '')
  const token = option ?? (HF_TOKEN || HUGGING_FACE_HUB_TOKEN || (await stored()))
  if (typeof token === 'string' && /^[\x21-\x7e]*$/.test(token.trim())) return token.trim() || undefined
  // The message shows nothing of the value, which is a secret.
  throw new TorchreelError(
    'ERR_INVALID_ARGUMENT',
    'token is not a valid Hugging Face token: it must be printable ASCII without spaces',
    { parameter: 'token', expected: 'a Hugging Face token (hf_…)', received: 'something else' },
  )
}
