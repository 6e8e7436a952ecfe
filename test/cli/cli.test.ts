// The command line, as a shell sees it: exit codes, stdout for results, stderr for the rest.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { startNode } from '../support/child.js'
import { repository, tinyCheckpoint } from '../support/fixtures.js'
import { standIn } from '../support/stand_in.js'
import { isGone, real, stall, until } from '../support/video.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-cli-'))
after(() => rmSync(folder, { recursive: true }))
const start = (...parameters: string[]) => startNode([`${repository}dist/cli/main.js`, ...parameters])
const run = (...parameters: string[]) => start(...parameters).ended
const model = ['--model', tinyCheckpoint]
const small = [...model, '--steps', '2', '--frames', '3']

test('a prompt becomes an mp4; stdout says where it is', async () => {
  const output = path.join(folder, 'one.mp4')
  const { code, stdout, stderr } = await run('a panda', ...small, '--seed', '7', '-o', output)
  assert.deepEqual(
    { code, stdout, stderr },
    { code: 0, stdout: `${output} (checkpoint, seed 7)\n`, stderr: '' },
  )
  assert.equal(readFileSync(output).toString('latin1', 4, 8), 'ftyp')
})

test('a prompt alone is drawn by the model in the package, and stderr says so', async () => {
  const output = path.join(folder, 'star.gif')
  const few = ['--steps', '2', '--frames', '4', '--seed', '7']
  const { code, stdout, stderr } = await run('a star', ...few, '--cache-dir', folder, '-o', output)
  assert.deepEqual({ code, stdout }, { code: 0, stdout: `${output} (shapes, seed 7)\n` })
  assert.match(stderr, /no model was named.*shapes/)
})

test('--json tells everything of the result', async () => {
  const output = path.join(folder, 'two.gif')
  const sizes = [
    '--width',
    '48',
    '--height',
    '40',
    '--fps',
    '4',
    '--scheduler',
    'euler',
    '--guidance-scale',
    '5',
  ]
  const { code, stdout } = await run(
    'a panda',
    ...small,
    ...sizes,
    '--seed',
    '1',
    '--json',
    '--quiet',
    '-o',
    output,
  )
  assert.equal(code, 0)
  const result = JSON.parse(stdout)
  const { width, height, frameCount, fps, seed, scheduler, device, dtype } = result
  assert.deepEqual(
    { output: result.output, width, height, frameCount, fps, seed, scheduler, device, dtype },
    {
      ...{ output, width: 48, height: 40, frameCount: 3, fps: 4, seed: 1 },
      ...{ scheduler: 'EulerDiscreteScheduler', device: result.device, dtype: result.dtype },
    },
  )
  assert.ok(result.timings.total > 0)

  const again = path.join(folder, 'again.gif')
  const change = ['--video', output, '--strength', '0.7', '--vae-tiling', '--steps', '2', '--json', '--quiet']
  const changed = await run('a boat', '--model', tinyCheckpoint, ...change, '-o', again)
  assert.equal(changed.code, 0)
  const second = JSON.parse(changed.stdout)
  assert.deepEqual([second.width, second.height, second.frameCount, second.fps], [48, 40, 3, 4])
  assert.equal(second.strength, 0.7)
})

test('--lora, with and without a scale, and --textual-inversion, each several times', async () => {
  const adapters = `${repository}test/fixtures/adapters/`
  const output = path.join(folder, 'missing.gif')
  const loras = ['--lora', `${adapters}kohya.safetensors:0.5`, '--lora', `${adapters}peft.safetensors`]
  const words = ['words', 'glimmerfall'].flatMap((name) => [
    '--textual-inversion',
    `${adapters}${name}.safetensors`,
  ])
  const sheet = async (name: string, ...more: string[]) => {
    const file = path.join(folder, `${name}.png`)
    const { code, stderr } = await run(
      'a glimmerfall',
      ...[...small, ...more, '--seed', '7', '-o', path.join(folder, `${name}.gif`), '--contact-sheet', file],
    )
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    return readFileSync(file)
  }
  const plain = await sheet('plain')
  const adapted = await sheet('adapted', ...loras)
  assert.notDeepEqual(adapted, plain)
  assert.notDeepEqual(await sheet('words', ...loras, ...words), adapted)

  const missing = await run('a', ...small, '--lora', 'nowhere.safetensors:2', '-o', output)
  assert.equal(missing.code, 1)
  assert.match(missing.stderr, /nowhere\.safetensors is missing \[ERR_MODEL_NOT_FOUND\]/)
})

test('options of several values reach the video', async () => {
  const { code, stdout, stderr } = await run(
    ...['a panda', ...model, '--frames', '6', '--seed', '7', '--json', '--guidance-scale', '9,1,5'],
    ...[
      '--timesteps',
      '999,700,300',
      '--window',
      '4:1',
      '--free-u',
      '0.9,0.2,1.2,1.4',
      '--vae-tiling',
      '16:0.5',
    ],
    ...[
      '--feature-cache',
      '2',
      '--guidance-interval',
      '0,0.5',
      '--clip-skip',
      '1',
      '-o',
      path.join(folder, 'many.apng'),
    ],
  )
  assert.equal(code, 0, stderr)
  const { steps, guidanceScale, settings } = JSON.parse(stdout)
  assert.equal(steps, 3)
  assert.deepEqual(guidanceScale, [9, 1, 5])
  const { frames, timesteps, window, freeU, vaeTiling, clipSkip } = settings
  assert.deepEqual([settings.featureCache, settings.guidanceInterval], [2, [0, 0.5]])
  assert.deepEqual(
    { frames, timesteps, window, freeU, vaeTiling, clipSkip },
    {
      ...{ frames: 6, timesteps: [999, 700, 300], window: { frames: 4, overlap: 1 }, clipSkip: 1 },
      ...{ freeU: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 }, vaeTiling: { tileSize: 16, overlap: 0.5 } },
    },
  )
})

test('--help has examples and exit codes, and nothing runs', async () => {
  const { code, stdout } = await run('--help')
  assert.equal(code, 0)
  for (const words of ['Examples:', '--guidance-scale', '--trust-graph', 'Exit codes:', 'setup']) {
    assert.ok(stdout.includes(words), words)
  }
})

test('--version', async () => {
  const { version } = JSON.parse(readFileSync(`${repository}package.json`, 'utf8')) as { version: string }
  assert.equal((await run('--version')).stdout, `${version}\n`)
})

for (const [name, parameters, words] of [
  ['no prompt', [], /missing required argument/],
  ['an unknown option', ['a', ...model, '--step', '3'], /--steps/],
  ['diffusers’ name of an option', ['a', '--num-inference-steps', '3'], /\(Did you mean --steps\?\)/],
  ['diffusers’ name, as in Python', ['a', '--num_frames', '3'], /\(Did you mean --frames\?\)/],
  ['a number that is none', ['a', ...model, '--steps', 'many'], /number/],
  ['steps out of range', ['a', ...model, '--steps', '0'], /steps must be.*ERR_INVALID_ARGUMENT/],
  ['factors of FreeU that are not four', ['a', ...model, '--free-u', '0.9,0.2'], /s1,s2,b1,b2/],
  ['an interval with one end', ['a', ...model, '--guidance-interval', '0.5'], /from,to/],
  ['an unknown scheduler', ['a', ...model, '--scheduler', 'eular'], /euler/],
  ['a mistyped command', ['modles'], /no command modles; did you mean "models"\?/],
  ['a mistyped command with its arguments', ['pul', 'owner/model'], /no command pul; did you mean "pull"\?/],
  ['a prompt without quotes', ['a', 'red', 'circle'], /put the prompt in quotes: "a red circle"/],
  ['an unknown file type', ['a', ...model, '-o', path.join(folder, 'x.avi')], /\.mp4/],
] as [string, string[], RegExp][]) {
  test(`wrong usage is exit code 2: ${name}`, async () => {
    const { code, stdout, stderr } = await run(...parameters)
    assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, stderr)
    assert.match(stderr, words)
    assert.doesNotMatch(stderr, /\n {4}at /)
  })
}

test('one word that resembles no command is a prompt', async () => {
  const output = path.join(folder, 'bird.gif')
  const { code, stdout } = await run('bird', ...small, '--seed', '7', '-o', output)
  assert.deepEqual({ code, stdout }, { code: 0, stdout: `${output} (checkpoint, seed 7)\n` })
})

test('a failure is exit code 1 with its code', async () => {
  const { code, stderr } = await run(
    'a',
    '--model',
    path.join(folder, 'nowhere'),
    '-o',
    path.join(folder, 'x.mp4'),
  )
  assert.equal(code, 1)
  assert.match(stderr, /ERR_MODEL_NOT_FOUND/)
})

test('[no-ffmpeg, output-exists] what cannot be saved fails before the model is loaded', async () => {
  const output = path.join(folder, 'there.mp4')
  writeFileSync(output, 'mine')
  const there = await run('a', ...small, '-o', output)
  assert.equal(there.code, 1)
  assert.match(there.stderr, /ERR_OUTPUT_EXISTS/)
  assert.equal(readFileSync(output, 'utf8'), 'mine')

  const command = [`${repository}dist/cli/main.js`, 'a', ...small, '-o', path.join(folder, 'y.mp4')]
  const none = await startNode(command, { ...process.env, FFMPEG_PATH: path.join(folder, 'no-ffmpeg') }).ended
  assert.equal(none.code, 1)
  assert.match(none.stderr, /ERR_ENCODER_NOT_FOUND/)
})

test('--overwrite replaces', async () => {
  const output = path.join(folder, 'again.mp4')
  writeFileSync(output, 'mine')
  assert.equal((await run('a', ...small, '--overwrite', '-o', output)).code, 0)
  assert.notEqual(readFileSync(output, 'latin1'), 'mine')
})

for (const [name, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  test(`[kill-signals] ${name} in a step ends with ${code} and leaves nothing behind`, async () => {
    const own = mkdtempSync(path.join(folder, 'interrupted-'))
    const output = path.join(own, 'long.mp4')
    const { child, ended } = start('a', ...model, '--steps', '1000', '--frames', '16', '-o', output)
    setTimeout(() => child.kill(name), 1500)
    const { code: ending, signal, stdout } = await ended
    assert.deepEqual({ ending, signal, stdout }, { ending: code, signal: null, stdout: '' })
    assert.deepEqual(readdirSync(own), [])
  })

  test(`[kill-signals] ${name} while ffmpeg works, too, and ffmpeg is ended`, async () => {
    const own = mkdtempSync(path.join(folder, 'interrupted-'))
    const started = path.join(folder, `${name}.started`)
    const ffmpeg = standIn(folder, real, stall(started), `ffmpeg-${name}`)
    const output = path.join(own, 'a.mp4')
    const { child, ended } = start('a', ...small, '--ffmpeg', ffmpeg, '-o', output)
    await until(() => existsSync(started) && readFileSync(started).length > 0)
    child.kill(name)
    const { code: ending, signal, stdout } = await ended
    assert.deepEqual({ ending, signal, stdout }, { ending: code, signal: null, stdout: '' })
    await until(() => isGone(Number(readFileSync(started, 'latin1'))))
    assert.deepEqual(readdirSync(own), [])
  })
}

test('[output-names] a stdout that is full, or that nobody reads, costs words and not the video', async () => {
  const line = (output: string) =>
    `'${process.execPath}' '${repository}dist/cli/main.js' 'a panda' ${small.join(' ')} --json -o '${output}'`
  const full = path.join(folder, 'full.apng')
  const { status, stderr } = spawnSync('sh', ['-c', `${line(full)} > /dev/full`], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /^torchreel: stdout: ENOSPC[^\n]*\n$/)
  const unread = path.join(folder, 'unread.apng')
  const closed = spawnSync('sh', ['-c', `${line(unread)} | true`], { encoding: 'utf8' })
  assert.deepEqual([closed.status, closed.stderr], [0, ''])
  for (const file of [full, unread]) assert.ok(readFileSync(file).length > 0)
})

test('setup prints the folder of the libtorch that is there', async () => {
  const { code, stdout, stderr } = await run('setup')
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.ok(existsSync(path.join(stdout.trim(), 'lib', 'libtorch_cpu.so')))
})
