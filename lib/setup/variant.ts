import { invalidArgument } from '../errors.js'
import type { Nvidia } from '../machine/machine.js'

/** What libtorch is published for. Not every version is published for all of them. */
export const variants = ['cpu', 'cu126', 'cu128', 'cu129', 'cu130'] as const
export type Variant = (typeof variants)[number]

/** A variant and why it was chosen. */
export interface VariantChoice {
  readonly variant: Variant
  readonly reason: string
}

export function checkVariant(variant: string): Variant {
  const known = variants.find((name) => name === variant)
  if (known) return known
  throw invalidArgument('variant', variants.join(', '), variant)
}

/**
 * Chooses the variant for a machine. A driver runs every CUDA of its major version (NVIDIA's "minor version compatibility"):
 * CUDA 12 needs driver 525, CUDA 13 needs 580. CUDA 13 has no kernels for GPUs before Turing (7.5), and CUDA 12.6 has none for
 * GPUs after Hopper (9).
 */
export function chooseVariant(nvidia: Nvidia | undefined): VariantChoice {
  if (!nvidia) return { variant: 'cpu', reason: 'no NVIDIA driver' }
  const major = Number.parseInt(nvidia.driver, 10)
  const capabilities = nvidia.gpus.map((gpu) => gpu.computeCapability)
  const driver = `driver ${nvidia.driver}`
  if (!(major >= 525))
    return { variant: 'cpu', reason: `${driver} is too old for CUDA 12: 525 or newer is needed` }
  if (major >= 580 && capabilities.every((capability) => capability >= 7.5))
    return { variant: 'cu130', reason: `${driver} runs CUDA 13` }
  if (capabilities.some((capability) => capability >= 10))
    return { variant: 'cu129', reason: `${driver} runs CUDA 12, and the GPU is newer than CUDA 12.6` }
  const older = major >= 580 ? ', and a GPU is older than CUDA 13 supports' : ''
  return { variant: 'cu126', reason: `${driver} runs CUDA 12${older}` }
}
