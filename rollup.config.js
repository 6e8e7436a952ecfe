// Puts what `import 'torchreel'` needs at once into one file: Node takes about a millisecond for each module it loads, and
// there are eighty. Every module of lib/ stays importable by its name, and there is one instance of each.
import { readdirSync } from 'node:fs'
import path from 'node:path'

const modules = readdirSync('dist', { recursive: true }).filter((name) => name.endsWith('.js'))

/** All that a module imports, and what that imports; not what it imports when it is needed. */
function reached(id, getModuleInfo, found = new Set()) {
  if (found.has(id)) return found
  found.add(id)
  for (const imported of getModuleInfo(id)?.importedIds ?? []) reached(imported, getModuleInfo, found)
  return found
}

export default {
  input: Object.fromEntries(modules.map((name) => [name.slice(0, -'.js'.length), path.join('dist', name)])),
  external: (id) => !/^[./]/.test(id),
  output: {
    dir: 'dist',
    chunkFileNames: '[name].js',
    hoistTransitiveImports: false,
    manualChunks: (id, { getModuleInfo }) =>
      reached(path.resolve('dist/index.js'), getModuleInfo).has(id) ? 'torchreel' : undefined,
  },
}
