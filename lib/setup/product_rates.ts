// Run in a child process by measureProducts (try_libtorch.ts): opens libtorch and the core, and prints the rates of products of
// matrices on the CPU by dtype, as JSON. Parameters: addon, core, libraries.
import { createRequire } from 'node:module'
import type { Addon } from '../addon/interface.js'

const [addonFile = '', core = '', ...libraries] = process.argv.slice(2)
try {
  const addon = createRequire(import.meta.url)(addonFile) as Addon
  addon.load(libraries, core)
  const dtypes = ['float32', 'bfloat16', 'float16']
  const best: Record<string, number> = {}
  for (const dtype of [...dtypes, ...dtypes]) // twice, as other programs may disturb one
    best[dtype] = Math.max(best[dtype] ?? 0, addon.productRate(dtype))
  console.log(JSON.stringify(best))
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
