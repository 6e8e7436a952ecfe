import { TorchreelError } from '../errors.js'
import { guarded, loadNative } from './load.js'

/** @throws TorchreelError `ERR_DEVICE_UNAVAILABLE`, or `ERR_INVALID_ARGUMENT` for a name that is not a device's */
export function checkDevice(device: string): void {
  guarded(() => loadNative().addon.checkDevice(device))
}

/** The device of a name; 'auto' is CUDA where there is one, else the CPU. */
export function resolveDevice(device: string): string {
  if (device !== 'auto') {
    checkDevice(device)
    return device === 'cuda' ? 'cuda:0' : device
  }
  try {
    checkDevice('cuda:0')
    return 'cuda:0'
  } catch (error) {
    if (error instanceof TorchreelError && error.code === 'ERR_DEVICE_UNAVAILABLE') return 'cpu'
    throw error
  }
}

/** What to tell a caller whose number type is slow on a device: no CPU kernel of libtorch is made for float16. */
export function slowPrecision(device: string, dtype: string): string[] {
  if (device !== 'cpu' || dtype !== 'float16') return []
  return [
    "dtype 'float16' is slow on a CPU: it took 4 to 8 times as long as 'float32' where this was measured. Use 'float32', " +
      "or 'bfloat16' to halve the memory of the weights",
  ]
}
