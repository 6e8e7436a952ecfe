import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

// Every module of lib/ may end up in dist/torchreel.js, so that only this one says where the package lies.

/** The folder of this package. */
export const packageFolder = fileURLToPath(new URL('..', import.meta.url))

/** The version of this package. */
export const { version } = createRequire(import.meta.url)('../package.json') as { version: string }
