import type { NativeMemory } from './native_pipeline.js'

/** Where the weights of one network lie. */
export interface NetworkMemory {
  /**
   * Bytes of the checkpoint's files that are mapped: pages that the system reads when they are needed, takes back when it
   * must, and shares with every process that maps the same files.
   */
  readonly mappedBytes: number
  /** Bytes of weights that are copied now: onto the device, or into another dtype than the file's. */
  readonly copiedBytes: number
  /** The most that `copiedBytes` was since the pipeline was loaded. */
  readonly peakCopiedBytes: number
  /**
   * Bytes of copies in page-locked memory of the host, which a device reads fastest: with an `offload` that copies to a GPU
   * again and again, the weights as they go there. They stay for as long as the pipeline.
   */
  readonly pinnedBytes: number
  /** Whether all weights are where and how the network computes: it could begin without a copy. */
  readonly resident: boolean
}

/** What of a pipeline lies where. */
export interface PipelineMemory {
  /** Where the networks compute, and where copies lie. */
  readonly device: string
  /** What they compute in. */
  readonly dtype: string
  readonly textEncoder: NetworkMemory
  readonly unet: NetworkMemory
  readonly vae: NetworkMemory
  /**
   * What libtorch's allocator holds on the device, of all pipelines of the process, in bytes: in tensors, and altogether.
   * Undefined on the CPU, where libtorch does not count.
   */
  readonly allocator: { readonly allocatedBytes: number; readonly reservedBytes: number } | undefined
}

export function pipelineMemory(device: string, dtype: string, bytes: NativeMemory): PipelineMemory {
  const network = (name: 'textEncoder' | 'unet' | 'vae'): NetworkMemory => {
    const { mapped, copied, peakCopied, pinned, placed } = bytes[name]
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
    unet: network('unet'),
    vae: network('vae'),
    allocator: allocated < 0 ? undefined : { allocatedBytes: allocated, reservedBytes: reserved },
  }
}
