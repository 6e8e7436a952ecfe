import { realpath, stat } from 'node:fs/promises'
import path from 'node:path'
import { TorchreelError } from '../errors.js'

/** The pipelines whose checkpoints torchreel reads. */
export const pipelineClasses: readonly unknown[] = ['TextToVideoSDPipeline', 'VideoToVideoSDPipeline']

/** @throws TorchreelError `ERR_MODEL_INCOMPATIBLE` for the model_index.json of another kind of model */
export function checkPipelineClass(model: string, index: Record<string, unknown>): void {
  const { _class_name: kind } = index
  if (pipelineClasses.includes(kind)) return
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `${model} is a ${String(kind)}; torchreel runs ${pipelineClasses.join(' and ')}`,
    { expected: pipelineClasses.join(' or '), received: kind },
  )
}

export async function isFolder(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

/** What a checkpoint is read from beside its weights; true where it cannot be done without. */
const plainFiles: Record<string, boolean> = {
  'model_index.json': true,
  'scheduler/scheduler_config.json': true,
  'text_encoder/config.json': true,
  'tokenizer/merges.txt': true,
  'tokenizer/special_tokens_map.json': false,
  'tokenizer/tokenizer_config.json': true,
  'tokenizer/vocab.json': true,
  'unet/config.json': true,
  'vae/config.json': true,
}

const weightBases: Record<string, string> = {
  text_encoder: 'text_encoder/model',
  unet: 'unet/diffusion_pytorch_model',
  vae: 'vae/diffusion_pytorch_model',
}

/** The files of a repository or folder that one checkpoint needs. */
export interface Selection {
  /** Configs and the tokenizer's files. */
  readonly plain: string[]
  /** Weights in one file. */
  readonly weights: string[]
  /** Lists of the shards of weights in several files. */
  readonly indexes: string[]
}

/**
 * Chooses from the names of a repository's or a folder's files: configs, tokenizer, and for each network one set of safetensors. Without a
 * variant that is the one without; the fp16 one only where there is no other.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_UNTRUSTED` (pickles only), `ERR_MODEL_INCOMPATIBLE` (another
 * layout)
 */
export function selectFiles(model: string, names: readonly string[], variant?: string): Selection {
  const present = new Set(names)
  const missing = Object.keys(plainFiles).filter((name) => plainFiles[name] && !present.has(name))
  if (missing.length > 0) {
    throw new TorchreelError(
      present.has('model_index.json') ? 'ERR_MODEL_NOT_FOUND' : 'ERR_MODEL_INCOMPATIBLE',
      `${model} is not a whole text-to-video model in the diffusers layout: it lacks ${missing.join(', ')}`,
      { expected: missing.join(', ') },
    )
  }
  const selection: Selection = {
    plain: Object.keys(plainFiles).filter((name) => present.has(name)),
    weights: [],
    indexes: [],
  }
  for (const [component, base] of Object.entries(weightBases)) {
    const variants = variant === undefined ? ['', '.fp16'] : [`.${variant}`]
    const found = variants
      .flatMap((infix) => [`${base}${infix}.safetensors`, `${base}.safetensors.index${infix}.json`])
      .find((name) => present.has(name))
    if (found === undefined) throw withoutWeights(model, component, names, variant)
    ;(found.endsWith('.json') ? selection.indexes : selection.weights).push(found)
  }
  return selection
}

function withoutWeights(
  model: string,
  component: string,
  names: readonly string[],
  variant: string | undefined,
): TorchreelError {
  const inFolder = names.filter((name) => name.startsWith(`${component}/`))
  const safetensors = inFolder.filter((name) => name.endsWith('.safetensors'))
  const pickle = inFolder.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name))
  if (pickle !== undefined && safetensors.length === 0) {
    return new TorchreelError(
      'ERR_MODEL_UNTRUSTED',
      `${model} has the weights of ${component} as a pickle only (${pickle}), which is a program and is not run. ` +
        'Convert it once, in Python, and give the folder as the model: ' +
        `DiffusionPipeline.from_pretrained('${model}').save_pretrained(folder, safe_serialization=True)`,
      { received: pickle },
    )
  }
  const wanted = `${weightBases[component]}${variant ? `.${variant}` : ''}.safetensors`
  return new TorchreelError(
    'ERR_MODEL_NOT_FOUND',
    `${model} has no ${wanted}; in its folder: ${inFolder.join(', ') || 'nothing'}`,
    { ...(variant !== undefined && { parameter: 'variant' }), expected: wanted },
  )
}

/**
 * The shards that an index names, with their folder.
 *
 * @throws TorchreelError `ERR_UNSAFE_PATH`, `ERR_MODEL_CORRUPT`
 */
export function shardsOf(indexName: string, index: Record<string, unknown>): string[] {
  const folder = indexName.slice(0, indexName.indexOf('/') + 1)
  const shards = [...new Set(Object.values((index.weight_map ?? {}) as Record<string, unknown>))]
  if (shards.length === 0) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${indexName} names no files`, { path: indexName })
  }
  return shards.map((shard) => {
    checkFileName(shard)
    if (/^[\w.-]+\.safetensors$/.test(shard)) return folder + shard
    throw unsafe(shard)
  })
}

/**
 * Refuses a name from a server that could lead out of the folder it is joined to, on any system: a backslash is a
 * letter on POSIX and a separator on Windows, `C:x` is a drive there.
 *
 * @throws TorchreelError `ERR_UNSAFE_PATH`
 */
export function checkFileName(name: unknown): asserts name is string {
  if (typeof name !== 'string' || name.length > 1024) throw unsafe(name)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f\\]/.test(name) || /^[A-Za-z]:/.test(name)) throw unsafe(name)
  for (const part of name.split('/')) {
    // Windows drops dots and spaces at the end of a name, and opens a device whatever stands after its name's dot.
    const stem = (part.split('.')[0] as string).trimEnd()
    if (/^[. ]*$/.test(part) || /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(stem)) throw unsafe(name)
  }
}

/**
 * Refuses files that are links to outside of a checkpoint's folder, which may be a stranger's. The cache's own links
 * lead from a snapshot to the blobs beside it.
 *
 * @throws TorchreelError `ERR_UNSAFE_PATH`
 */
export async function checkLinks(root: string, names: readonly string[]): Promise<void> {
  const real = await realpath(root)
  const inside = [real]
  if (path.basename(path.dirname(real)) === 'snapshots') {
    const blobs = await realpath(path.join(real, '../../blobs')).catch(() => undefined)
    if (blobs !== undefined) inside.push(blobs)
  }
  for (const name of names) {
    const file = path.join(root, name)
    const target = await realpath(file).catch(() => undefined)
    if (target === undefined || inside.some((folder) => target.startsWith(folder + path.sep))) continue
    throw new TorchreelError(
      'ERR_UNSAFE_PATH',
      `${file} is a link to ${target}, outside of the model's folder: copy what it names, or link the whole folder`,
      { path: file, received: target },
    )
  }
}

function unsafe(name: unknown): TorchreelError {
  const shown = JSON.stringify(name)?.slice(0, 100)
  return new TorchreelError('ERR_UNSAFE_PATH', `the repository names a file ${shown}, which is not safe`, {
    received: name,
  })
}
