// npm run prebuilds -- [LIBTORCH...]: prebuilds/linux-x64, with the addon and a core for the minor version of each libtorch
// that is given; without one, of the libtorch that is found. Not by prebuildify: it knows versions of Node, which
// Node-API makes all one, and none of libtorch, so all that is left to do is CMake's own install.
import { execFileSync } from 'node:child_process'
import { readdirSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { findLibtorch, type Libtorch } from '#dist/machine/libtorch.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const prebuilds = path.join(root, 'prebuilds', 'linux-x64')

function prebuild({ folder, version }: Libtorch): void {
  const build = path.join(root, 'build', `prebuild-${version}`)
  const cmake = (...parameters: string[]) =>
    execFileSync('cmake', parameters, { cwd: root, stdio: 'inherit' })
  cmake('-S', root, '-B', build, `-DTORCHREEL_LIBTORCH=${folder}`)
  cmake('--build', build, '--target', 'prebuilt')
  cmake('--install', build, '--prefix', root, '--strip')
}

/** The newest version of each of the machine's libraries that a library asks for: the floor of where it runs. */
function floors(library: string): string {
  const symbols = execFileSync('objdump', ['-T', library], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  const highest = new Map<string, string>()
  for (const [, name = '', version = ''] of symbols.matchAll(/\((GLIBC|GLIBCXX)_([\d.]+)\)/g))
    if (version.localeCompare(highest.get(name) ?? '0', undefined, { numeric: true }) > 0)
      highest.set(name, version)
  return [...highest].map(([name, version]) => `${name} ${version}`).join(', ')
}

rmSync(prebuilds, { recursive: true, force: true })
const named = process.argv.slice(2)
for (const libtorch of named.length > 0 ? named.map((folder) => findLibtorch(folder)) : [findLibtorch()])
  prebuild(libtorch)
for (const name of readdirSync(prebuilds)) {
  const file = path.join(prebuilds, name)
  console.log(`${name}  ${Math.round(statSync(file).size / 1000)} kB  ${floors(file)}`)
}
