import type { Role } from '../families/family.js'
import type { NativeMemory } from './interface.js'

/** Where the weights of one network are. */
export interface NetworkMemory {
  /**
   * Bytes of the checkpoint's files that are mapped. The system reads their pages when they are used, can take them back,
   * and shares them with every process that maps the same files.
   */
  readonly mappedBytes: number
  /** Bytes of weights that are copied now: to the device, or to another dtype than the file's. */
  readonly copiedBytes: number
  /** The most that `copiedBytes` was since the pipeline was loaded. */
  readonly peakCopiedBytes: number
  /**
   * Bytes of copies in page-locked memory of the host, which a GPU reads fastest. An `offload` that copies weights to a GPU
   * again and again makes them; they stay until the pipeline is disposed.
   */
  readonly pinnedBytes: number
  /** Whether all weights are on the device and in the dtype that the network computes in, so that none need be copied. */
  readonly resident: boolean
}

/** Where the weights of a pipeline are. */
export interface PipelineMemory {
  /** The device that the networks compute on, and that weights are copied to. */
  readonly device: string
  /** The dtype that they compute in. */
  readonly dtype: string
  readonly textEncoder: NetworkMemory
  readonly denoiser: NetworkMemory
  readonly vae: NetworkMemory
  /**
   * Bytes that libtorch's allocator has on the device, for all pipelines of the process: in tensors, and in all. Undefined on
   * the CPU, where libtorch does not count.
   */
  readonly allocator: { readonly allocatedBytes: number; readonly reservedBytes: number } | undefined
}

export function pipelineMemory(device: string, dtype: string, bytes: NativeMemory): PipelineMemory {
  const network = (role: Role): NetworkMemory => {
    const { mapped, copied, peakCopied, pinned, placed } = bytes[role]
    return {
      mappedBytes: mapped,
      copiedBytes: copied,
      peakCopiedBytes: peakCopied,
      pinnedBytes: pinned,
      resident: placed,
    }
  }
  const { allocated, reserved } = bytes
  return {
    device,
    dtype,
    textEncoder: network('textEncoder'),
    denoiser: network('denoiser'),
    vae: network('vae'),
    allocator: allocated < 0 ? undefined : { allocatedBytes: allocated, reservedBytes: reserved },
  }
}
