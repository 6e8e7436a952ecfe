import { invalidArgument } from '../errors.js'
import type { Nvidia } from '../machine/machine.js'

/** What a libtorch can be built for. Which of them a version is published for is its publisher's choice. */
export const variants = ['cpu', 'cu126', 'cu128', 'cu129', 'cu130'] as const
export type Variant = (typeof variants)[number]

/** A variant and why it is the one. */
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
 * The variant for a machine. A driver runs what is built for any CUDA of its major version (NVIDIA's "minor version
 * compatibility"): 12 from driver 525 on, 13 from 580 on. CUDA 13 has no kernels for GPUs before Turing (7.5), and
 * CUDA 12.6 none for GPUs after Hopper (9).
 */
export function chooseVariant(nvidia: Nvidia | undefined): VariantChoice {
  if (!nvidia) return { variant: 'cpu', reason: 'no NVIDIA driver' }
  const major = Number.parseInt(nvidia.driver, 10)
  const capabilities = nvidia.gpus.map((gpu) => gpu.computeCapability)
  const driver = `driver ${nvidia.driver}`
  if (!(major >= 525)) return { variant: 'cpu', reason: `${driver} is too old for CUDA 12: it takes 525` }
  if (major >= 580 && capabilities.every((capability) => capability >= 7.5))
    return { variant: 'cu130', reason: `${driver} runs CUDA 13` }
  if (capabilities.some((capability) => capability >= 10))
    return { variant: 'cu129', reason: `${driver} runs CUDA 12, and the GPU is newer than CUDA 12.6` }
  const older = major >= 580 ? ', and a GPU is older than CUDA 13 supports' : ''
  return { variant: 'cu126', reason: `${driver} runs CUDA 12${older}` }
}
