import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { readJson } from '../files/json.js'
import { isFile, isFolder } from '../files/regular_file.js'
import type { SafetensorsHeader } from '../files/safetensors_header.js'

/** A LoRA's file. */
export interface LoraFile {
  /** The name of the LoRA if the caller gives none. */
  readonly name: string
  readonly header: SafetensorsHeader
  /**
   * The configuration that PEFT or diffusers wrote for the LoRA, into the file's metadata or into the adapter_config.json
   * beside it. Keys may begin with a network's folder, as in `unet.lora_alpha`.
   */
  readonly config: Readonly<Record<string, unknown>>
}

/** What PEFT and diffusers call a LoRA's file in a folder. Pickles are among them, to be refused by name. */
const fileNames = [
  'adapter_model.safetensors',
  'pytorch_lora_weights.safetensors',
  'adapter_model.bin',
  'pytorch_lora_weights.bin',
]

/** How PEFT names a layer of the model that it saved. */
export const peftPrefix = 'base_model.model.'

/**
 * Reads what a LoRA's file says, without its numbers.
 *
 * @param file a safetensors file, or a folder that PEFT or diffusers saved
 * @param readHeader reads the header of a safetensors file
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED` for a pickle
 */
export async function readLoraFile(
  file: string,
  readHeader: (file: string) => Promise<SafetensorsHeader>,
): Promise<LoraFile> {
  const folder = await isFolder(file)
  const header = await readHeader(folder ? await findInFolder(file) : file)
  const name = path.basename(folder ? path.resolve(file) : header.file, '.safetensors')
  const savedByPeft = Array.from(header.tensors.keys()).some((tensor) => tensor.startsWith(peftPrefix))
  const beside = path.join(path.dirname(header.file), 'adapter_config.json')
  return {
    name,
    header,
    config: { ...readMetadata(header), ...(savedByPeft ? await readJson(beside, {}) : {}) },
  }
}

async function findInFolder(folder: string): Promise<string> {
  for (const name of fileNames) {
    const file = path.join(folder, name)
    if (await isFile(file)) return file
  }
  throw new TorchreelError(
    'ERR_MODEL_NOT_FOUND',
    `${path.resolve(folder)} has no ${fileNames.slice(0, 2).join(' or ')}; name the file of the LoRA`,
    { path: path.resolve(folder) },
  )
}

/** The configuration that diffusers writes into the file's metadata. */
function readMetadata({ file, metadata }: SafetensorsHeader): Record<string, unknown> {
  try {
    return JSON.parse(metadata.lora_adapter_metadata ?? '{}') ?? {}
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file}: its lora_adapter_metadata is not JSON`, {
      path: file,
      cause: error,
    })
  }
}
