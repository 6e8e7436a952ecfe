import { createRequire } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import { show, TorchreelError, type TorchreelErrorCode, type TorchreelErrorDetails } from '../errors.js'
import { addonFile, coreFile, loadError, requireWhole } from '../machine/addon_files.js'
import { findLibtorch, type Libtorch, librariesOf } from '../machine/libtorch.js'
import { requirePlatform } from '../machine/machine.js'
import type { Addon } from './interface.js'

const require = createRequire(import.meta.url)
let loaded: { addon: Addon; libtorch: Libtorch } | undefined

/**
 * Loads the addon, libtorch and the core that was built for it; once per process.
 *
 * @throws TorchreelError `ERR_NATIVE_LOAD` with what was tried, `ERR_LIBTORCH_NOT_FOUND`
 */
export function loadNative(libtorchFolder?: string): { addon: Addon; libtorch: Libtorch } {
  if (loaded && libtorchFolder === undefined) return loaded
  requirePlatform()
  const file = addonFile()
  const libtorch = findLibtorch(libtorchFolder)
  const files = [file, ...librariesOf(libtorch)]
  let addon: Addon
  try {
    const core = coreFile(file, libtorch.version)
    files.push(core)
    librariesOf(libtorch).forEach(requireWhole)
    addon = require(file) as Addon
    addon.load(librariesOf(libtorch), core)
  } catch (error) {
    throw loadError(error as Error, libtorch, files)
  }
  // A worker waits for the running step when it ends. The process need not wait.
  if (isMainThread && !loaded) process.on('exit', () => addon.leaveAtExit())
  loaded = { addon, libtorch }
  return loaded
}

/** An error of the native side as a TorchreelError, with the caller's stack. */
export function asTorchreelError(error: unknown, device = 'cpu'): TorchreelError {
  const { code, message, stage, step } = error as TorchreelErrorDetails & { code?: string; message?: string }
  const known = typeof code === 'string' && code.startsWith('ERR_')
  return new TorchreelError(known ? (code as TorchreelErrorCode) : 'ERR_INTERNAL', message ?? show(error), {
    ...(stage !== undefined && { stage, step }),
    ...(code === 'ERR_DEVICE_LOST' && { device }),
    // A job on a device also needs memory of the host.
    ...(code === 'ERR_OUT_OF_MEMORY' && { device: message?.includes('CUDA') ? device : 'cpu' }),
    cause: error,
  })
}

/** Calls the addon; its errors become TorchreelErrors. */
export function guarded<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw asTorchreelError(error)
  }
}
