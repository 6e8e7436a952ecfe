import { isFloat32Array } from 'node:util/types'
import type { Kind } from './checks/kinds.js'

/** Numbers with a shape, such as latents and embeddings. */
export interface Tensor {
  /** Row-major in `shape`. */
  readonly data: Float32Array
  readonly shape: readonly number[]
}

/** Tensors of a shape; null stands for a dimension of any size. */
export function tensor(shape: readonly (number | null)[]): Kind<Tensor> {
  return {
    expected: `{ data: Float32Array, shape: [${shape.map((size) => size ?? 'any').join(', ')}] }`,
    read(value) {
      const { data, shape: given } = (value ?? {}) as Partial<Tensor>
      const fits =
        isFloat32Array(data) &&
        Array.isArray(given) &&
        given.length === shape.length &&
        given.every((size) => Number.isSafeInteger(size) && size > 0) &&
        shape.every((size, index) => size === null || size === given[index]) &&
        given.reduce((product, size) => product * size, 1) === data.length
      return fits ? { data, shape: [...given] } : undefined
    },
  }
}
