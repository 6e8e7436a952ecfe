import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { isFloatingPoint, type SafetensorsHeader } from '../files/safetensors_header.js'

/** A word and the vectors that stand for it (Gal et al. 2022, https://arxiv.org/abs/2208.01618). */
export interface TextualInversion {
  /** The word in a prompt. */
  readonly token: string
  /** The number of its vectors: it uses as many of a prompt's tokens. */
  readonly vectors: number
  /** The safetensors file. */
  readonly file: string
}

/** Names of tensors that are not named by their word: A1111's, and SDXL's for CLIP's smaller encoder. */
const wordless = ['emb_params', 'clip_l']

/**
 * Finds the vectors in the file of a textual inversion: A1111's `emb_params`, `clip_l`, or one tensor that is named by
 * its word.
 *
 * @param token the word; undefined: the tensor's name, or the file's if the tensor is not named by its word
 * @param width D of the text encoder's token table
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE`
 */
export function findVectors(
  header: SafetensorsHeader,
  token: string | undefined,
  width: number,
): { inversion: TextualInversion; tensor: string } {
  const { file, tensors } = header
  const tensor =
    tensors.size === 1 ? [...tensors.keys()][0] : wordless.find((candidate) => tensors.has(candidate))
  const entry = tensor === undefined ? undefined : tensors.get(tensor)
  if (tensor === undefined || entry === undefined) {
    const names = [...tensors.keys()].slice(0, 10).join(', ')
    throw new TorchreelError(
      'ERR_MODEL_INCOMPATIBLE',
      `${file} is not a textual inversion: it must have one tensor, or ${wordless.join(' or ')}; it has ${names || 'none'}`,
      { path: file },
    )
  }
  const [vectors, size] = entry.shape.length === 1 ? [1, entry.shape[0]] : entry.shape
  if (entry.shape.length > 2 || size !== width || !vectors || !isFloatingPoint(entry)) {
    throw new TorchreelError(
      'ERR_MODEL_INCOMPATIBLE',
      `${file}: ${tensor} must hold vectors of ${width} numbers for this text encoder, got [${entry.shape}]`,
      { path: file, expected: `[n, ${width}]`, received: `[${entry.shape}]` },
    )
  }
  const word = token ?? (wordless.includes(tensor) ? path.basename(file, '.safetensors') : tensor)
  return { inversion: { token: word, vectors, file }, tensor }
}
