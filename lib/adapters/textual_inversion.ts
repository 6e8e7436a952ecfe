import path from 'node:path'
import { TorchreelError } from '../errors.js'
import { isFloatingPoint, type SafetensorsHeader } from '../files/safetensors_header.js'

/** A word and the vectors that stand for it (Gal et al. 2022, https://arxiv.org/abs/2208.01618). */
export interface TextualInversion {
  /** What stands for it in a prompt. */
  readonly token: string
  /** How many vectors, and so how many of the prompt's tokens, it takes. */
  readonly vectors: number
  /** The safetensors file. */
  readonly file: string
}

/** Names that files give a tensor that is not named by its word: A1111's, and SDXL's for CLIP's smaller encoder. */
const wordless = ['emb_params', 'clip_l']

/**
 * Finds the vectors in the file of a textual inversion: A1111's `emb_params`, `clip_l`, or one tensor that is named by
 * its word.
 *
 * @param token the word; else the tensor's name, or the file's where the tensor's says nothing
 * @param width numbers in a vector of the text encoder
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE`
 */
export function textualInversion(
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
      `${file} is no textual inversion: it should have one tensor, or ${wordless.join(' or ')}, and has ${names || 'none'}`,
      { path: file },
    )
  }
  const [vectors, size] = entry.shape.length === 1 ? [1, entry.shape[0]] : entry.shape
  if (entry.shape.length > 2 || size !== width || !vectors || !isFloatingPoint(entry)) {
    throw new TorchreelError(
      'ERR_MODEL_INCOMPATIBLE',
      `${file}: ${tensor} must be vectors of ${width} numbers, as this text encoder's are, and is [${entry.shape}]`,
      { path: file, expected: `[n, ${width}]`, received: `[${entry.shape}]` },
    )
  }
  const word = token ?? (wordless.includes(tensor) ? path.basename(file, '.safetensors') : tensor)
  return { inversion: { token: word, vectors, file }, tensor }
}
