// npm run prebuilds -- [LIBTORCH...]: fills prebuilds/linux-x64. prebuildify builds the addon through binding.gyp. CMake builds
// a core for the minor version of each libtorch that is given; without one, of the libtorch that is found.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { findLibtorch, type Libtorch } from '#dist/machine/libtorch.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const prebuilds = path.join(root, 'prebuilds', 'linux-x64')

/** `torchreel.glibc.node`, named and tagged as node-gyp-build expects. */
function prebuildAddon(): void {
  // node-gyp removes build/ in the folder where it runs, so it runs in one of its own, with links to what it compiles.
  const folder = path.join(root, 'build', 'prebuild-addon')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const name of ['binding.gyp', 'package.json', 'native', 'node_modules'])
    symlinkSync(path.join(root, name), path.join(folder, name))
  const headers = nodeHeaders()
  const parameters = ['--napi', '--tag-libc', '--strip', '--target', process.versions.node]
  execFileSync('prebuildify', [...parameters, '--cwd', folder, '--out', root], {
    stdio: 'inherit',
    env: { JOBS: 'max', ...(headers && { npm_config_nodedir: headers }), ...process.env },
  })
}

/** The folder whose include/node has the headers of the Node that runs this. Undefined: node-gyp downloads them. */
function nodeHeaders(): string | undefined {
  const folder = path.resolve(process.execPath, '../..')
  return existsSync(path.join(folder, 'include', 'node', 'common.gypi')) ? folder : undefined
}

function prebuildCore({ folder, version }: Libtorch): void {
  const build = path.join(root, 'build', `prebuild-${version}`)
  const cmake = (...parameters: string[]) =>
    execFileSync('cmake', parameters, { cwd: root, stdio: 'inherit' })
  const unity = ['-DCMAKE_UNITY_BUILD=ON', '-DCMAKE_UNITY_BUILD_BATCH_SIZE=10'] // as `npm run build` does
  cmake('-S', root, '-B', build, `-DTORCHREEL_LIBTORCH=${folder}`, ...unity)
  cmake('--build', build, '--target', 'prebuilt', '--parallel', `${availableParallelism()}`)
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
prebuildAddon()
const named = process.argv.slice(2)
for (const libtorch of named.length > 0 ? named.map((folder) => findLibtorch(folder)) : [findLibtorch()])
  prebuildCore(libtorch)
for (const name of readdirSync(prebuilds)) {
  const file = path.join(prebuilds, name)
  console.log(`${name}  ${Math.round(statSync(file).size / 1000)} kB  ${floors(file)}`)
}
