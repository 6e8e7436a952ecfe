// Run in a child process by try_libtorch: opens libtorch. Parameters: addon, core, device (each may be empty), libraries.
// With an addon, opens libtorch and the core as a pipeline does; without, the libraries alone.
import { createRequire } from 'node:module'
import type { Addon } from '../addon/interface.js'

const [addonFile, core = '', device, ...libraries] = process.argv.slice(2)
try {
  if (addonFile) {
    const addon = createRequire(import.meta.url)(addonFile) as Addon
    addon.load(libraries, core)
    if (device) addon.checkDevice(device)
  } else libraries.forEach(openLibrary)
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}

/** A plain library loads and then fails with "did not self-register": that is success. */
function openLibrary(library: string): void {
  try {
    process.dlopen({ exports: {} }, library)
  } catch (error) {
    if (!/self-register/.test((error as Error).message)) throw error
  }
}
