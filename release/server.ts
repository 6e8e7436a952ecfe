// The package torchreel-server, installed beside torchreel in a folder that no other package can be found from: the command,
// a video over HTTP, the page with its script, the end, and the page's tests in a browser.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { cell, environmentOf, libtorch, makeProject, nodeFolder, root, run } from './project.js'

/** The oldest Node that "engines" admits, and the newest that is kept up. */
const nodes = ['20.19.0', '26']

const here = { TORCHREEL_LIBTORCH: libtorch, npm_config_script_shell: '/bin/sh' }

/** Tries the two tarballs with npm. */
export async function tryServers(npm: string, torchreel: string, server: string) {
  const rows: Record<string, string>[] = []
  // Below the repository, Node would find every package in its node_modules.
  const parent = mkdtempSync(path.join(tmpdir(), 'torchreel-release-'))
  try {
    for (const version of nodes) rows.push(await tryServer(parent, npm, version, torchreel, server))
  } finally {
    rmSync(parent, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
  return rows
}

async function tryServer(parent: string, npm: string, version: string, torchreel: string, server: string) {
  const bin = nodeFolder(version)
  const project = makeProject(`server-${version}`, parent)
  const install = (folder: string, ...tarballs: string[]) =>
    run(folder, bin, [npm, 'install', '--ignore-scripts', '--no-audit', '--no-fund', ...tarballs])
  const row: Record<string, string> = {
    node: (await run(project, bin, ['-v'])).trim(),
    install: await cell(async () => {
      await install(project, torchreel, server)
      return true
    }),
  }
  row.serve = await cell(async () => {
    const said = await run(project, bin, [npm, 'exec', '--', 'torchreel', 'serve', '--help'], here)
    return said.startsWith('Usage: torchreel-server')
  })
  row.alone = await cell(async () => {
    const alone = makeProject(`alone-${version}`, parent)
    await install(alone, torchreel)
    const said = await run(alone, bin, [npm, 'exec', '--', 'torchreel', 'serve'], here).catch((e) => e.stderr)
    return /npm install torchreel-server/.test(said)
  })
  const data = path.join(project, 'data')
  const words = ['torchreel-server', '--port', '0', '--data', data, '--log-level', 'warn']
  const child = spawn(path.join(bin, 'node'), [npm, 'exec', '--', ...words], {
    cwd: project,
    env: environmentOf(bin, here),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let address = ''
  let pid = 0
  row.ready = await cell(async () => {
    address = await addressOf(child)
    pid = JSON.parse(readFileSync(path.join(data, 'server.lock'), 'utf8')).pid
    await until(async () => (await fetch(`${address}/readyz`)).ok)
    return true
  })
  row.video = await cell(() => makesVideoOverHttp(address))
  row.page = await cell(() => servesPage(address))
  row.end = await cell(async () => {
    const ended = once(child, 'close')
    // To the server itself: npx passes a signal to its shell, which does not pass it on.
    process.kill(pid, 'SIGTERM')
    const [code] = await Promise.race([ended, wait(20_000, ['no end'], { ref: false })])
    return code === 0
  })
  // Whatever went wrong above, nothing runs on.
  if (row.end !== 'ok') kill(pid)
  child.kill('SIGKILL')
  row.browser = await tryInBrowser(project, bin)
  return row
}

function kill(pid: number): void {
  try {
    if (pid > 0) process.kill(pid, 'SIGKILL')
  } catch {} // it has ended
}

/** The first line that the command prints. */
async function addressOf(child: ChildProcess): Promise<string> {
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  const [line] = await Promise.race([
    once(lines, 'line'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the server ended with ${code}`))),
  ])
  return line
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await isSo()); tries++) {
    if (tries > 600) throw new Error('it took more than a minute')
    await wait(100)
  }
}

async function makesVideoOverHttp(address: string): Promise<boolean> {
  const answer = await fetch(`${address}/v1/videos`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'a big red circle', num_inference_steps: 2 }),
  })
  const { id } = (await answer.json()) as { id: string }
  const video = `${address}/v1/videos/${id}`
  await until(async () => {
    const { status, error } = (await (await fetch(video)).json()) as { status: string; error: object | null }
    if (error) throw new Error(JSON.stringify(error))
    return status === 'completed'
  })
  const content = Buffer.from(await (await fetch(`${video}/content`)).arrayBuffer())
  return content.length > 1000 && content.toString('latin1', 4, 8) === 'ftyp'
}

/** Whether the page is there with its script and its styles. */
async function servesPage(address: string): Promise<boolean> {
  const html = await (await fetch(`${address}/`)).text()
  const [, script] = /<script[^>]* src="([^"]+)"/.exec(html) ?? []
  const [, styles] = /<link[^>]* href="([^"]+\.css)"/.exec(html) ?? []
  const isServed = async (name: string | undefined, type: RegExp) => {
    const answer = await fetch(new URL(name ?? '/none', address))
    return answer.ok && type.test(answer.headers.get('content-type') ?? '') && (await answer.text()) !== ''
  }
  return (await isServed(script, /javascript/)) && (await isServed(styles, /css/))
}

/** The page's tests of a video from the prompt to the download, on the installed server. */
async function tryInBrowser(project: string, bin: string): Promise<string> {
  const program = path.join(project, 'node_modules/torchreel-server/dist/cli/main.js')
  const tests = ['making', 'keeping'].map((name) => path.join(root, `build/server-test/page/${name}.test.js`))
  let skipped = false
  const result = await cell(async () => {
    await run(root, bin, [path.join(root, 'node_modules/typescript/bin/tsc'), '-p', 'server/test/page'])
    const said = await run(root, bin, ['--test', '--test-reporter=tap', ...tests], {
      ...{ ...here, TORCHREEL_SERVER: program },
      ...(process.env.CI && { CI: process.env.CI }),
    })
    skipped = /# SKIP no Chromium/.test(said)
    return /^# fail 0$/m.test(said)
  })
  return result === 'ok' && skipped ? 'no Chromium' : result
}
