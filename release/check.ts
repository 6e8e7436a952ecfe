// npm run release:check [-- PART …]: packs the two packages, checks their types and entry points with publint and
// are-the-types-wrong, then installs the tarballs into empty projects. `managers`: torchreel with npm, pnpm and yarn, under
// every version of Node in use. PATH has Node alone: no compiler, no Python, no ffmpeg. Each project makes videos with the
// libtorch that is found here, and one with the ffmpeg that `torchreel setup` gets from npm's registry. `runtimes`:
// Plug'n'Play, permissions, test runners, Bun, Deno (runtimes.ts). `server`: torchreel-server (server.ts).
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import {
  cell,
  isHealthy,
  libtorch,
  makeProject,
  makesVideo,
  nodeFolder,
  nodes,
  root,
  run,
  tool,
  work,
} from './project.js'
import { tryRuntimes } from './runtimes.js'
import { tryServers } from './server.js'

const bundler = 'esbuild@0.28'
const registry = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim()

interface Manager {
  readonly name: string
  /** Its script, run by the Node that is tried. */
  readonly script: string
  readonly install: (tarball: string) => string[]
}

const npm = path.join(
  path.dirname(realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim())),
  'npm-cli.js',
)

function managers(): Manager[] {
  return [
    {
      name: 'npm',
      script: npm,
      install: (tarball) => ['install', '--ignore-scripts', '--no-audit', '--no-fund', tarball],
    },
    {
      name: 'pnpm',
      script: path.join(tool('pnpm@10'), 'pnpm/bin/pnpm.cjs'),
      install: (tarball) => ['add', tarball],
    },
    {
      name: 'yarn',
      script: path.join(tool('yarn@1'), 'yarn/bin/yarn.js'),
      // An own cache: yarn's would give an older tarball of the same name and version.
      install: (tarball) => [
        'add',
        '--no-progress',
        '--cache-folder',
        path.join(work, 'yarn-cache'),
        `file:${tarball}`,
      ],
    },
  ]
}

/** Packs the package of a folder and checks that what is built is in it. */
function pack(folder: string, built: RegExp[]): string {
  const output = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', work], {
    cwd: path.join(root, folder),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [{ filename, files, size }] = JSON.parse(output)
  const names = (files as { path: string }[]).map((file) => file.path)
  for (const pattern of built)
    if (!names.some((name) => pattern.test(name)))
      throw new Error(`the tarball ${filename} has no ${pattern.source}`)
  console.log(`${filename}: ${names.length} files, ${(size / 1e6).toFixed(1)} MB`)
  return path.join(work, filename)
}

/** The two packages have one version, and the server asks for no other torchreel. */
function checkVersions(): void {
  const read = (folder: string) => JSON.parse(readFileSync(path.join(root, folder, 'package.json'), 'utf8'))
  const { version } = read('.')
  const server = read('server')
  for (const found of [server.version, server.dependencies.torchreel])
    if (found !== version) throw new Error(`server/package.json names ${found}, package.json ${version}`)
}

function checkPublication(tarball: string): void {
  const look = (name: string, ...parameters: string[]) =>
    execFileSync('npm', ['exec', '--yes', `--package=${name}`, '--', ...parameters], {
      stdio: 'inherit',
      cwd: work,
    })
  look('publint@0.3', 'publint', 'run', tarball, '--strict')
  // node16: resolution by "exports", which every Node in "engines" has. The ignored rule warns of require() of an ES module,
  // which they can do, too.
  look(
    '@arethetypeswrong/cli@0.18',
    'attw',
    tarball,
    '--profile',
    'node16',
    '--ignore-rules',
    'cjs-resolves-to-esm',
  )
}

async function tryOut({ name, script, install }: Manager, major: string, bin: string, tarball: string) {
  const project = makeProject(`${name}-${major}`)
  const cli = path.join(project, 'node_modules', 'torchreel', 'dist', 'cli', 'main.js')
  const here = { TORCHREEL_LIBTORCH: libtorch }
  const video = (program: string, output: string) =>
    makesVideo(project, output, (file, environment) => run(project, bin, [program, file], environment))
  const row: Record<string, string> = {
    manager: name,
    node: (await run(project, bin, ['-v'])).trim(),
    install: await cell(async () => {
      await run(project, bin, [script, ...install(tarball)])
      return true
    }),
  }
  row.missing = await cell(async () => {
    const said = await run(project, bin, ['esm.mjs', 'x.mp4'], { XDG_CACHE_HOME: project }).catch(
      (e) => e.stderr,
    )
    return /ERR_LIBTORCH_NOT_FOUND/.test(said) && /npx torchreel setup/.test(said)
  })
  row.setup = await cell(async () => (await run(project, bin, [cli, 'setup'], here)).trim() === libtorch)
  // Through npm where npm installed it; else by the command itself, which then has no npm and asks the registry over HTTP.
  row.ffmpeg = await cell(async () => {
    const command = name === 'npm' ? [script, 'exec', '--', 'torchreel'] : [cli]
    const bare = {
      ...here,
      ...{ FFMPEG_PATH: '', XDG_CACHE_HOME: path.join(project, 'cache') },
      ...{ npm_config_registry: registry, npm_config_script_shell: '/bin/sh' },
    }
    await run(project, bin, [...command, 'setup'], bare)
    await run(project, bin, [...command, 'a red circle'], bare)
    return statSync(path.join(project, 'torchreel.mp4')).size > 1000
  })
  row.doctor = await cell(() => isHealthy(run(project, bin, [cli, 'doctor', '--json'], here)))
  row.import = await cell(() => video('esm.mjs', 'esm.mp4'))
  row.require = await cell(() => video('commonjs.cjs', 'commonjs.mp4'))
  row.worker = await cell(() => video('worker.mjs', 'worker.mp4'))
  row.types = await cell(async () => {
    const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc')
    const settings = ['--module', 'nodenext', '--target', 'es2022', '--strict', '--noEmit', '--ignoreConfig']
    const types = [
      '--lib',
      'es2023,esnext.disposable',
      '--types',
      'node',
      '--typeRoots',
      path.join(root, 'node_modules/@types'),
    ]
    await run(project, bin, [compiler, ...settings, ...types, 'types.mts', 'types.cts'])
    return true
  })
  row.bundle = await cell(async () => {
    const esbuild = path.join(tool(bundler), 'esbuild', 'bin', 'esbuild')
    const parameters = [
      '--bundle',
      '--platform=node',
      '--format=esm',
      '--external:torchreel',
      '--outfile=bundle.mjs',
    ]
    execFileSync(esbuild, ['esm.mjs', ...parameters, '--log-level=error'], { cwd: project })
    return video('bundle.mjs', 'bundle.mp4')
  })
  return row
}

const parts: Record<string, (torchreel: string, server: string) => Promise<Record<string, string>[]>> = {
  managers: async (torchreel) => {
    const rows: Record<string, string>[] = []
    for (const major of nodes)
      for (const manager of managers()) rows.push(await tryOut(manager, major, nodeFolder(major), torchreel))
    return rows
  },
  runtimes: tryRuntimes,
  server: (torchreel, server) => tryServers(npm, torchreel, server),
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !Object.hasOwn(parts, name))
if (unknown.length > 0) throw new Error(`no part ${unknown}; there are ${Object.keys(parts).join(', ')}`)
rmSync(work, { recursive: true, force: true })
mkdirSync(work, { recursive: true })
checkVersions()
const torchreel = pack('.', [
  /^prebuilds\/linux-x64\/torchreel\.glibc\.node$/,
  /^prebuilds\/linux-x64\/torchreel_core-.*\.so$/,
])
const server = pack('server', [
  /^dist\/cli\/main\.js$/,
  /^dist\/web\/index\.html$/,
  /^dist\/web\/assets\/.*\.js$/,
])
for (const tarball of [torchreel, server]) checkPublication(tarball)
for (const [name, attempt] of Object.entries(parts)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue
  const rows = await attempt(torchreel, server)
  console.table(rows)
  if (rows.some((row) => Object.values(row).some((value) => /FAILED|wrong/.test(value)))) process.exitCode = 1
}
for (const name of readdirSync(work))
  if (/^(npm|pnpm|yarn|pnp|runtimes)-/.test(name)) rmSync(path.join(work, name), { recursive: true })
