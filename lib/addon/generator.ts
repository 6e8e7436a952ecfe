import { invalidArgument } from '../errors.js'
import type { Addon, GeneratorHandle, NativeModel } from './interface.js'
import { guarded, loadNative } from './load.js'

/** Seeds are integers from 0 to 2^53 − 1. */
export function checkSeed(seed: unknown): asserts seed is number {
  if (!(Number.isSafeInteger(seed) && (seed as number) >= 0)) {
    throw invalidArgument('seed', 'an integer from 0 to 2^53 − 1', seed)
  }
}

/** A seed for a caller who gave none: 32 random bits, so that it is easy to write down. */
export function chooseSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] as number
}

/** The core's generator behind {@link Generator}. */
export class NativeGenerator {
  readonly #addon: Addon
  readonly #generator: GeneratorHandle

  constructor(seed: number) {
    this.#addon = loadNative().addon
    this.#generator = guarded(() => this.#addon.createGenerator(seed))
  }

  randn(shape: readonly number[]): Float32Array {
    return guarded(() => this.#addon.randn(this.#generator, shape))
  }

  /** The core's interpreter of denoising programs; the samples after each of `calls` calls, one after the other. */
  static runProgram(
    code: Float64Array,
    sample: Float32Array,
    shape: readonly number[],
    model: NativeModel,
    generator: NativeGenerator | undefined,
    calls: number,
  ): Float32Array {
    return loadNative().addon.runProgram(
      code,
      sample,
      shape,
      model,
      generator === undefined ? undefined : generator.#generator,
      calls,
    )
  }
}

/**
 * libtorch's CPU generator: `new Generator(seed).randn(shape)` gives the numbers of
 * `torch.randn(shape, generator=torch.Generator().manual_seed(seed))`, on any device.
 */
export class Generator {
  readonly seed: number
  readonly #native: NativeGenerator

  /** @throws TorchreelError `ERR_INVALID_ARGUMENT`, or why libtorch could not be loaded */
  constructor(seed: number) {
    checkSeed(seed)
    this.seed = seed
    this.#native = new NativeGenerator(seed)
  }

  /** The next standard normal numbers, float32 in row-major order of `shape`. Each call goes on where the last ended. */
  randn(shape: readonly number[]): Float32Array {
    const sizes = Array.isArray(shape) ? shape : [Number.NaN]
    if (!sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw invalidArgument('shape', 'an array of non-negative integers', shape)
    }
    return this.#native.randn(sizes)
  }
}
