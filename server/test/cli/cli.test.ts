// The command torchreel-server, and `torchreel serve`, which starts it.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { after, test } from 'node:test'
import { create, newFolder, untilState } from '../support/acting_server.js'

const require = createRequire(import.meta.url)
const packageFolder = path.dirname(require.resolve('torchreel-server/package.json'))
const torchreelFolder = path.dirname(require.resolve('torchreel/package.json'))
const program = path.join(packageFolder, 'dist', 'cli', 'main.js')
const folder = newFolder()
const children: ChildProcess[] = []
after(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
})

const run = (...words: string[]) =>
  spawnSync(process.execPath, [program, ...words], { encoding: 'utf8', timeout: 30_000 })

/** Starts a command, and gives the lines that it prints until it has printed two. */
async function startCommand(words: string[], environment: Record<string, string> = {}) {
  const child = spawn(process.execPath, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  })
  children.push(child)
  let said = ''
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.split('\n').length > 2) resolve()
    })
    child.once('close', () => reject(new Error(`${said}${errors}`)))
  })
  return { child, lines: said.trim().split('\n') }
}

test('[server-sigterm] one command serves shapes on 127.0.0.1, says where, and ends at SIGTERM', async () => {
  const home = path.join(folder, 'home')
  const { child, lines } = await startCommand([program, '--port', '0'], { XDG_DATA_HOME: home })
  const data = path.join(home, 'torchreel-server')
  assert.match(lines[0] ?? '', /^http:\/\/127\.0\.0\.1:\d+$/)
  assert.equal(lines[1], `Videos and jobs are in ${data}`)
  const url = lines[0] as string
  const video = await untilAccepted(url)
  assert.equal(video.model, 'shapes')
  assert.equal((await untilState(url, video.id, 'completed')).status, 'completed')
  assert.ok(existsSync(path.join(data, 'jobs', video.id, 'video.mp4')))
  const second = run('--port', '0', '--data', data)
  assert.equal(second.status, 1)
  assert.match(second.stderr, new RegExp(`process ${child.pid}\\n$`))
  const closed = once(child, 'close')
  child.kill('SIGTERM')
  assert.deepEqual(await closed, [0, null])
})

/** Its models are loaded after the address is printed. */
async function untilAccepted(url: string) {
  for (;;) {
    const video = await create(url, 'a red circle', { num_inference_steps: 1, num_frames: 2 })
    if (video.id) return video
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('--new-key prints a key once and keeps its sha256; with the file only keys are let in', async () => {
  const data = path.join(folder, 'keyed')
  const { status, stdout, stderr } = run('--new-key', 'ann', '--data', data)
  assert.equal(status, 0)
  assert.match(stdout, /^tr-[\w-]{32}\n$/)
  assert.match(stderr, /--keys .*keys/)
  const keys = path.join(data, 'keys')
  assert.match(readFileSync(keys, 'utf8'), /^sha256:[0-9a-f]{64} ann\n$/)
  const admin = run('--new-key', 'root', '--admin', '--data', data)
  assert.match(readFileSync(keys, 'utf8'), / root admin\n$/)
  const { lines } = await startCommand([program, '--port', '0', '--data', data, '--keys', keys])
  const list = (key?: string) =>
    fetch(`${lines[0]}/v1/videos`, { headers: key ? { authorization: `Bearer ${key}` } : {} })
  assert.equal((await list()).status, 401)
  assert.equal((await list(stdout.trim())).status, 200)
  const metrics = (key: string) =>
    fetch(`${lines[0]}/metrics`, { headers: { authorization: `Bearer ${key}` } })
  assert.deepEqual(
    [(await metrics(stdout.trim())).status, (await metrics(admin.stdout.trim())).status],
    [403, 200],
  )
})

test('wrong words are refused with exit code 2, what cannot be done with 1', () => {
  for (const words of [
    ['--prot', '1'],
    ['--port', 'x'],
    ['--max-steps', '0'],
    ['--alias', 'x'],
    ['--log-level', 'loud'],
    ['--public-url', 'foo'],
    ['--origin', 'example.com'],
    ['--admin'],
  ])
    assert.equal(run(...words, '--data', path.join(folder, 'wrong')).status, 2, words.join(' '))
  const open = run('--host', '0.0.0.0', '--data', path.join(folder, 'open'))
  assert.equal(open.status, 1)
  assert.match(open.stderr, /--new-key NAME/)
  assert.match(run('--new-key', 'a b', '--data', folder).stderr, /name must be/)
  const twice = run('--model', 'a/x', '--model', 'a/x', '--data', path.join(folder, 'twice'))
  assert.match(twice.stderr, /two models are called a\/x/)
  const missing = run('--keys', path.join(folder, 'none'), '--data', path.join(folder, 'missing'))
  assert.equal(missing.status, 1)
  const alias = run('--alias', 'sora-2=shap', '--data', path.join(folder, 'alias'))
  assert.match(alias.stderr, /sora-2 is for the model shap, but this server has shapes/)
  const nowhere = run('--data', '/proc/torchreel')
  assert.deepEqual([nowhere.status, nowhere.signal], [1, null], 'no folder can be made there')
  assert.match(nowhere.stderr, /\/proc\/torchreel/)
})

test('models that cannot be loaded end the server, with the reason as the last line', () => {
  for (const [words, reason] of [
    [['--model', 'nonsense'], /no model folder .*nonsense/],
    [['--device', 'foo'], /device must be .* got "foo"/],
  ] as const) {
    const { status, stderr } = run(...words, '--port', '0', '--data', path.join(folder, 'unloadable'))
    assert.equal(status, 1)
    assert.match(stderr.trim().split('\n').at(-1) ?? '', reason)
    assert.doesNotMatch(stderr, / {4}at /, 'no place in the code')
  }
})

test('a port that is in use is named', async () => {
  const { child, lines } = await startCommand([program, '--port', '0', '--data', path.join(folder, 'first')])
  const { port } = new URL(lines[0] as string)
  const second = run('--port', port, '--data', path.join(folder, 'second'))
  child.kill('SIGKILL')
  assert.equal(second.status, 1)
  assert.match(second.stderr, new RegExp(`port ${port} of 127.0.0.1 is in use`))
})

test('--help names every option, with its default', () => {
  const { status, stdout } = run('--help')
  assert.equal(status, 0)
  for (const option of [
    '--model',
    '--device',
    '--port',
    '--host',
    '--data',
    '--keys',
    '--new-key',
    '--origin',
    '--drain',
    '--max-waiting',
  ])
    assert.ok(stdout.includes(option), option)
  assert.doesNotMatch(stdout, /default: \[\]|undefined/)
  assert.equal(
    run('--version').stdout.trim(),
    JSON.parse(readFileSync(path.join(packageFolder, 'package.json'), 'utf8')).version,
  )
})

test('torchreel serve starts it, and says how to install it where it is not', async () => {
  const torchreel = path.join(torchreelFolder, 'dist', 'cli', 'main.js')
  const { child, lines } = await startCommand([
    torchreel,
    'serve',
    '--port',
    '0',
    '--data',
    path.join(folder, 'served'),
  ])
  assert.equal((await fetch(`${lines[0]}/healthz`)).status, 200)
  const closed = once(child, 'close')
  child.kill('SIGTERM')
  assert.deepEqual(await closed, [0, null])
  const help = spawnSync(process.execPath, [torchreel, 'serve', '--help'], { encoding: 'utf8' })
  assert.match(help.stdout, /^Usage: torchreel-server/)

  // torchreel alone, as npm installs it.
  const alone = path.join(folder, 'alone', 'node_modules')
  mkdirSync(path.join(alone, 'torchreel'), { recursive: true })
  for (const name of ['dist', 'package.json'])
    cpSync(path.join(torchreelFolder, name), path.join(alone, 'torchreel', name), { recursive: true })
  const { dependencies } = JSON.parse(readFileSync(path.join(torchreelFolder, 'package.json'), 'utf8'))
  for (const name of Object.keys(dependencies))
    symlinkSync(path.join(torchreelFolder, 'node_modules', name), path.join(alone, name))
  const without = spawnSync(
    process.execPath,
    [path.join(alone, 'torchreel', 'dist', 'cli', 'main.js'), 'serve'],
    { encoding: 'utf8', cwd: folder },
  )
  assert.equal(without.status, 2, without.stderr)
  assert.match(without.stderr, /npm install torchreel-server/)
})
