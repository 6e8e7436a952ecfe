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
