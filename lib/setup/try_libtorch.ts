import path from 'node:path'
import { addonFile, coreFile, requireWhole } from '../machine/addon_files.js'
import { librariesOf, libtorchIn } from '../machine/libtorch.js'
import { packageFolder } from '../package.js'
import { run } from './run.js'

/** Files, as Deno and Bun do not run `-e` as Node does. */
const trial = path.join(packageFolder, 'dist', 'setup', 'load_trial.js')
const rates = path.join(packageFolder, 'dist', 'setup', 'product_rates.js')

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
  const libtorch = requireLibtorch(folder)
  const addon = withCore ? addonIfAny() : undefined
  const core = addon === undefined ? '' : coreFile(addon, libtorch.version)
  librariesOf(libtorch).forEach(requireWhole)
  await run(process.execPath, [trial, addon ?? '', core, device, ...librariesOf(libtorch)], () => {})
}

/**
 * Measures how fast the CPU multiplies matrices with the libtorch in a folder, in a child process.
 *
 * @returns floating-point operations a second, by dtype
 */
export async function measureProducts(
  folder: string,
): Promise<Record<'float32' | 'bfloat16' | 'float16', number>> {
  const libtorch = requireLibtorch(folder)
  const addon = addonFile()
  const files = [addon, coreFile(addon, libtorch.version), ...librariesOf(libtorch)]
  return JSON.parse(await run(process.execPath, [rates, ...files], () => {}))
}

function requireLibtorch(folder: string) {
  const libtorch = libtorchIn(folder)
  if (!libtorch) throw new Error('it holds no lib/libtorch_cpu.so')
  return libtorch
}

/** A clone that is not built yet has none. */
function addonIfAny(): string | undefined {
  try {
    return addonFile()
  } catch {
    return undefined
  }
}
