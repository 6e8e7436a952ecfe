import { addonFile, coreFile, requireWhole } from '../machine/addon_files.js'
import { librariesOf, libtorchIn } from '../machine/libtorch.js'
import { run } from './run.js'

/** Runs in the child. With an addon, opens libtorch and the core as a pipeline does; without, the libraries alone. */
const script = `
const [addon, core, device, ...libraries] = process.argv.slice(1)
try {
  if (addon) {
    require(addon).load(libraries, core)
    if (device) require(addon).checkDevice(device)
  } else for (const library of libraries) {
    // A plain library loads and then fails with "did not self-register": that is success.
    try { process.dlopen({ exports: {} }, library) } catch (error) { if (!/self-register/.test(error.message)) throw error }
  }
} catch (error) { console.error(error.message); process.exitCode = 1 }`

/**
 * Opens the libtorch in a folder in a child process, so that a crash ends the child only.
 *
 * @param options.core whether to open the core too, if there is an addon
 * @param options.device a device that must be available, such as `cuda`
 * @throws Error with the loader's message
 */
export async function tryLibtorch(
  folder: string,
  { core: withCore = true, device = '' } = {},
): Promise<void> {
  const libtorch = libtorchIn(folder)
  if (!libtorch) throw new Error('it holds no lib/libtorch_cpu.so')
  const addon = withCore ? addonIfAny() : undefined
  const core = addon === undefined ? '' : coreFile(addon, libtorch.version)
  librariesOf(libtorch).forEach(requireWhole)
  await run(process.execPath, ['-e', script, addon ?? '', core, device, ...librariesOf(libtorch)], () => {})
}

/** A clone that is not built yet has none. */
function addonIfAny(): string | undefined {
  try {
    return addonFile()
  } catch {
    return undefined
  }
}
