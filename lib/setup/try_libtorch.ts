import { addonFile, coreFile, requireWhole } from '../machine/addon_files.js'
import { librariesOf, libtorchIn } from '../machine/libtorch.js'
import { run } from './run.js'

/** Runs in the child: with the addon, libtorch and the core as a pipeline opens them; else the libraries alone. */
const script = `
const [addon, core, device, ...libraries] = process.argv.slice(1)
try {
  if (addon) {
    require(addon).load(libraries, core)
    if (device) require(addon).checkDevice(device)
  } else for (const library of libraries) {
    // What is a library but no addon opens, and then lacks this.
    try { process.dlopen({ exports: {} }, library) } catch (error) { if (!/self-register/.test(error.message)) throw error }
  }
} catch (error) { console.error(error.message); process.exitCode = 1 }`

/**
 * Opens the libtorch in a folder in a child process: one that lacks something, or crashes, does so there.
 *
 * @param with.core whether the core must open, too, where there is an addon; else libtorch alone
 * @param with.device a device that must be there, such as `cuda`
 * @throws Error with the loader's words
 */
export async function verify(folder: string, { core: withCore = true, device = '' } = {}): Promise<void> {
  const libtorch = libtorchIn(folder)
  if (!libtorch) throw new Error('it holds no lib/libtorch_cpu.so')
  const addon = withCore ? addonIfAny() : undefined
  const core = addon === undefined ? '' : coreFile(addon, libtorch.version)
  librariesOf(libtorch).forEach(requireWhole)
  await run(process.execPath, ['-e', script, addon ?? '', core, device, ...librariesOf(libtorch)], () => {})
}

/** A clone that was not built yet has none. */
function addonIfAny(): string | undefined {
  try {
    return addonFile()
  } catch {
    return undefined
  }
}
