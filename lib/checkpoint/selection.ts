import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { requireFamily } from '../families/families.js'
import type { Component, Family } from '../families/family.js'
import { readJson } from '../files/json.js'
import { checkFileName, unsafeName } from '../files/safe_names.js'
import { shellWord } from '../files/shell_word.js'
import { describeModelFolder } from './other_layouts.js'

/** The file that names a checkpoint's pipeline class, and so its family. */
export const indexFile = 'model_index.json'

/**
 * The family of a checkpoint's folder.
 *
 * @param model names the checkpoint in the message
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE` if torchreel runs no models of this class
 */
export async function readFamily(model: string, folder: string): Promise<Family> {
  return requireFamily(model, await readJson(path.join(folder, indexFile)))
}

/** The files of a repository or folder that one checkpoint needs. */
export interface Selection {
  /** Configs and the tokenizer's files. */
  readonly plain: readonly string[]
  /** Weights in one file. */
  readonly weights: readonly string[]
  /** Lists of the shards of weights in several files. */
  readonly indexes: readonly string[]
}

/** A part of a model: all but its text encoder, or that alone, as a family's checkpoints have it. */
export type WantedPart = { readonly without: 'textEncoder' } | { readonly textEncoderOf: Family }

/**
 * Refuses a repository or folder without model_index.json, from its files' names.
 *
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE`
 */
export function checkHasIndex(model: string, names: readonly string[]): void {
  if (names.includes(indexFile)) return
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `${model} ${describeModelFolder(names) ?? `is not a model in the diffusers layout: ${indexFile} is missing`}`,
    { expected: indexFile },
  )
}

/** The files that a family's checkpoints have. */
export type FamilyFiles = Pick<Family, 'plainFiles' | 'components'>

/** A whole checkpoint, one whose text encoder comes from elsewhere, or a text encoder alone. */
export type Part = 'whole' | 'withoutTextEncoder' | 'textEncoder'

/** The files that a part of a family's checkpoint has. */
export function filesOfPart({ plainFiles, components }: Family, part: Part): FamilyFiles {
  if (part === 'whole') return { plainFiles, components }
  const wanted = (role: Component['role']) => (role === 'textEncoder') === (part === 'textEncoder')
  const kept = components.filter(({ role }) => wanted(role))
  const folders = kept.map(({ folder }) => `${folder}/`)
  const others = components.map(({ folder }) => `${folder}/`).filter((folder) => !folders.includes(folder))
  const isKept = (name: string) =>
    part === 'textEncoder'
      ? folders.some((folder) => name.startsWith(folder))
      : !others.some((folder) => name.startsWith(folder))
  const plain = Object.entries(plainFiles).filter(([name]) => isKept(name))
  return { plainFiles: Object.fromEntries(plain), components: kept }
}

/**
 * Chooses the files of a checkpoint from the names in a repository or folder: configs, tokenizer, and one set of
 * safetensors for each network. Without a variant that is the set without one, or fp16 if there is no other.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_UNTRUSTED` (pickles only)
 */
export function selectFiles(
  { plainFiles, components }: FamilyFiles,
  model: string,
  names: readonly string[],
  variant?: string,
): Selection {
  const present = new Set(names)
  const plain = selectPlain(plainFiles, model, present)
  const variants = variant === undefined ? ['', '.fp16'] : [`.${variant}`]
  const found = components.map((component) => {
    const base = `${component.folder}/${component.weights}`
    const file = variants
      .flatMap((infix) => [`${base}${infix}.safetensors`, `${base}.safetensors.index${infix}.json`])
      .find((name) => present.has(name))
    if (file === undefined) throw withoutWeights(model, component, names, variant)
    return file
  })
  return {
    plain,
    weights: found.filter((name) => name.endsWith('.safetensors')),
    indexes: found.filter((name) => name.endsWith('.json')),
  }
}

function selectPlain(
  plainFiles: Family['plainFiles'],
  model: string,
  present: ReadonlySet<string>,
): string[] {
  const plain = new Set<string>()
  const missing: string[] = []
  for (const [name, rule] of Object.entries(plainFiles)) {
    if (present.has(name)) plain.add(name)
    else if (typeof rule === 'string' && present.has(rule)) plain.add(rule)
    else if (rule !== false) missing.push(typeof rule === 'string' ? `${name} (or ${rule})` : name)
  }
  if (missing.length === 0) return [...plain]
  const expected = missing.join(', ')
  throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${model} is incomplete: ${expected} is missing`, {
    expected,
  })
}

/** A command that writes a model's weights as safetensors into a folder in the working directory. */
function conversion(model: string): string {
  const folder = `${path.basename(model)}-safetensors`
  const script =
    'import sys; from diffusers import DiffusionPipeline; ' +
    'DiffusionPipeline.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2], safe_serialization=True)'
  return `python3 -c '${script}' ${shellWord(model)} ${shellWord(folder)}`
}

function withoutWeights(
  model: string,
  { folder, weights }: Component,
  names: readonly string[],
  variant: string | undefined,
): TorchreelError {
  const inFolder = names.filter((name) => name.startsWith(`${folder}/`))
  const safetensors = inFolder.filter((name) => name.endsWith('.safetensors'))
  const pickle = inFolder.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name))
  if (pickle !== undefined && safetensors.length === 0) {
    return new TorchreelError(
      'ERR_MODEL_UNTRUSTED',
      `${model} has the weights of ${folder} only as a pickle (${pickle}). A pickle is a program, which torchreel does ` +
        `not run. Convert the model once, with Python and diffusers: ${conversion(model)}  Then give the new folder as the model`,
      { received: pickle },
    )
  }
  const wanted = `${folder}/${weights}${variant ? `.${variant}` : ''}.safetensors`
  return new TorchreelError(
    'ERR_MODEL_NOT_FOUND',
    `${model} has no ${wanted}; ${folder}/ has ${inFolder.join(', ') || 'no files'}`,
    { ...(variant !== undefined && { parameter: 'variant' }), expected: wanted },
  )
}

/**
 * The variants that a checkpoint's denoiser comes in: `diffusion_pytorch_model.fp16.safetensors` is 'fp16', and '' is the
 * file without a variant.
 *
 * @returns sorted; at least ''
 */
export function findVariants({ components }: Family, names: readonly string[]): string[] {
  const { folder, weights } = components.find(({ role }) => role === 'denoiser') as Component
  const variants = names.flatMap((name) => {
    if (!name.startsWith(`${folder}/${weights}.`)) return []
    const rest = name.slice(`${folder}/${weights}`.length)
    const found =
      /^(?:\.(\w+))?\.safetensors$/.exec(rest) ?? /^\.safetensors\.index(?:\.(\w+))?\.json$/.exec(rest)
    return found ? [found[1] ?? ''] : []
  })
  return variants.length > 0 ? [...new Set(variants)].sort() : ['']
}

/**
 * The weight files that an index of shards names, with their folder.
 *
 * @throws TorchreelError `ERR_UNSAFE_PATH`, `ERR_MODEL_CORRUPT`
 */
export function listShards(indexName: string, index: Record<string, unknown>): string[] {
  const folder = indexName.slice(0, indexName.indexOf('/') + 1)
  const shards = [...new Set(Object.values((index.weight_map ?? {}) as Record<string, unknown>))]
  if (shards.length === 0) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${indexName} names no files`, { path: indexName })
  }
  return shards.map((shard) => {
    checkFileName(shard)
    if (/^[\w.-]+\.safetensors$/.test(shard)) return folder + shard
    throw unsafeName(shard)
  })
}
