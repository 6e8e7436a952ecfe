import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { noise, pattern, standIn } from './support/stand_in.js'

const dist = new URL('../../dist/', import.meta.url)
const { Video, checkSave, exportToVideo } = (await import(
  new URL('video.js', dist).href
)) as typeof import('../dist/video.js')
const { encodeToFile } = (await import(new URL('encode.js', dist).href)) as typeof import('../dist/encode.js')
const { findFfmpeg } = (await import(new URL('ffmpeg.js', dist).href)) as typeof import('../dist/ffmpeg.js')

const real = (await findFfmpeg()).path
delete process.env.FFMPEG_PATH
delete process.env.FFMPEG_BIN
const base = realpathSync(mkdtempSync(join(tmpdir(), 'torchreel-video-')))
const startFolder = process.cwd()
let folder = base
let tools = base
let count = 0

beforeEach(() => {
  folder = join(base, `${++count}`)
  tools = join(base, `${count}.tools`)
  mkdirSync(folder)
  mkdirSync(tools)
})
after(() => {
  process.chdir(startFolder)
  rmSync(base, { recursive: true, force: true })
})

function video(width = 64, height = 48, frameCount = 8, fps = 8) {
  return new Video({ width, height, fps, data: pattern(width, height, frameCount) })
}

/** What ffmpeg says of a file: size, frame rate, pixel format, and every frame decoded to rgb24. */
function decode(path: string) {
  const input = ['-v', 'error', '-xerror', '-i', path]
  // By default ffmpeg rounds down when it goes back to rgb, and repeats frames to fill the time.
  const exact = [
    '-vf',
    'scale=flags=bicubic+accurate_rnd+full_chroma_int',
    '-pix_fmt',
    'rgb24',
    '-vsync',
    '0',
  ]
  const raw = spawnSync(real, [...input, ...exact, '-f', 'rawvideo', 'pipe:1'], { maxBuffer: 1 << 28 })
  assert.equal(raw.status, 0, raw.stderr.toString())
  const report = spawnSync(real, ['-i', path]).stderr.toString()
  const line = /Stream #0:0.*Video: .*/.exec(report)?.[0] ?? ''
  const [, width, height] = /, (\d+)x(\d+)/.exec(line) ?? []
  const fps = Number(/, ([\d.]+) tbr/.exec(line)?.[1])
  return { line, width: Number(width), height: Number(height), fps, frames: raw.stdout as Uint8Array }
}

/** Mean absolute difference of two byte sequences of one length. */
function difference(a: Uint8Array, b: Uint8Array): number {
  assert.equal(a.length, b.length)
  return a.reduce((sum, value, index) => sum + Math.abs(value - (b[index] as number)), 0) / a.length
}

/** The types of an mp4's top-level boxes, in order. */
function boxes(mp4: Buffer): string[] {
  const types: string[] = []
  for (let at = 0; at < mp4.length; at += mp4.readUInt32BE(at))
    types.push(mp4.toString('latin1', at + 4, at + 8))
  return types
}

function withEnvironment(changes: Record<string, string | undefined>) {
  const before = Object.fromEntries(Object.keys(changes).map((name) => [name, process.env[name]]))
  const apply = (values: Record<string, string | undefined>) => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  apply(changes)
  return { [Symbol.dispose]: () => apply(before) }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(10)
}

/** Whether a process has ended; a zombie has. */
function isGone(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return true
  }
}

/** Says that it has started, then neither reads nor writes until its stdin is closed. */
const stall = (started: string) => `
fs.writeFileSync(${JSON.stringify(started)}, String(process.pid))
const reading = setInterval(() => {}, 1000)
if (process.env.STAND_IN_ENDS_WITH_STDIN) process.stdin.resume().on('end', () => clearInterval(reading))
`

describe('finding ffmpeg', () => {
  test('65. ffmpeg absent: ERR_ENCODER_NOT_FOUND before there is any frame', async () => {
    using _ = withEnvironment({ FFMPEG_PATH: '/nowhere/ffmpeg' })
    await assert.rejects(checkSave(join(folder, 'a.mp4')), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_ENCODER_NOT_FOUND')
      assert.match(error.message, /FFMPEG_PATH: \/nowhere\/ffmpeg: no such file/)
      assert.match(error.message, /npm install ffmpeg-static/)
      return true
    })
    await assert.rejects(video().save(join(folder, 'a.mp4')), { code: 'ERR_ENCODER_NOT_FOUND' })
    await assert.rejects(video().toBuffer('mp4'), { code: 'ERR_ENCODER_NOT_FOUND' })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('65. a PNG sequence needs no ffmpeg', async () => {
    using _ = withEnvironment({ FFMPEG_PATH: '/nowhere/ffmpeg' })
    await checkSave(join(folder, '%d.png'))
    await video().save(join(folder, '%d.png'))
    assert.equal(readdirSync(folder).length, 8)
  })

  test('option before environment before PATH', async () => {
    const [first, second, third] = ['first', 'second', 'ffmpeg'].map((name) =>
      standIn(tools, real, 'pass()', name),
    )
    using _path = withEnvironment({ PATH: `${tools}:${process.env.PATH}` })
    assert.equal((await findFfmpeg()).path, third)
    assert.equal((await findFfmpeg()).source, 'PATH')
    assert.equal((await findFfmpeg('first')).path, first)
    using _environment = withEnvironment({ FFMPEG_BIN: second })
    assert.deepEqual(
      [await findFfmpeg(first), await findFfmpeg()].map(({ path, source }) => [path, source]),
      [
        [first, 'option'],
        [second, 'FFMPEG_BIN'],
      ],
    )
  })

  test('what does not run, is not ffmpeg or lacks the encoder is passed over on PATH and refused by name', async () => {
    const poor = join(tools, 'poor')
    mkdirSync(poor)
    writeFileSync(join(poor, 'ffmpeg'), `#!/bin/sh\necho "ffmpeg version 9"\n`, { mode: 0o755 })
    const other = join(tools, 'other')
    mkdirSync(other)
    writeFileSync(join(other, 'ffmpeg'), '#!/bin/sh\necho hello\n', { mode: 0o755 })
    const good = standIn(tools, real, 'pass()')
    using _ = withEnvironment({ PATH: [poor, other, tools, process.env.PATH].join(':') })
    assert.equal((await findFfmpeg()).path, good)
    await assert.rejects(findFfmpeg(join(poor, 'ffmpeg')), /has no encoder libx264/)
    await assert.rejects(findFfmpeg(join(other, 'ffmpeg')), /did not answer/)
    writeFileSync(join(tools, 'plain'), '')
    await assert.rejects(findFfmpeg(join(tools, 'plain')), /chmod \+x/)
    await assert.rejects(findFfmpeg(tools), /no such file/)
  })
})

describe('an ffmpeg that fails', () => {
  test('66. it leaves early: ERR_ENCODER_FAILED with what it said', async () => {
    const ffmpeg = standIn(tools, real, `process.stderr.write('no more\\n', () => process.exit(3))`)
    await assert.rejects(video(640, 480, 8).save(join(folder, 'a.mp4'), { ffmpeg }), {
      code: 'ERR_ENCODER_FAILED',
      exitCode: 3,
      signal: null,
      stderrTail: 'no more\n',
    })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('66. it leaves early and says 0', async () => {
    const ffmpeg = standIn(tools, real, 'process.exit(0)')
    await assert.rejects(video(640, 480, 8).save(join(folder, 'a.mp4'), { ffmpeg }), {
      code: 'ERR_ENCODER_FAILED',
      exitCode: 0,
    })
    await assert.rejects(video(640, 480, 8).toBuffer('mp4', { ffmpeg }), { code: 'ERR_ENCODER_FAILED' })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('67. it is killed: ERR_ENCODER_FAILED with the signal, no partial file', async () => {
    const ffmpeg = standIn(
      tools,
      real,
      `process.stdin.once('data', () => { fs.writeFileSync(output, 'half'); process.kill(process.pid, 'SIGKILL') })`,
    )
    await assert.rejects(video().save(join(folder, 'a.mp4'), { ffmpeg }), {
      code: 'ERR_ENCODER_FAILED',
      signal: 'SIGKILL',
      exitCode: null,
    })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('it drops a frame, or writes half a file, and says 0', async () => {
    const dropping = standIn(tools, real, `args.splice(-1, 0, '-frames:v', '7'); pass()`, 'dropping')
    await assert.rejects(
      video().save(join(folder, 'a.mp4'), { ffmpeg: dropping }),
      (error: Error & { code?: string }) => {
        // It may also leave before it has read the last frame.
        assert.ok(['ERR_OUTPUT_WRITE', 'ERR_ENCODER_FAILED'].includes(error.code as string), error.message)
        return true
      },
    )
    const halving = standIn(
      tools,
      real,
      `spawnSync(real, args, { stdio: 'inherit' }); fs.truncateSync(output, fs.statSync(output).size >> 1)`,
      'halving',
    )
    for (const name of ['a.mp4', 'a.webm', 'a.gif']) {
      const noisy = new Video({ width: 64, height: 48, fps: 8, data: noise(64 * 48 * 3 * 8) })
      await assert.rejects(noisy.save(join(folder, name), { ffmpeg: halving }), { code: 'ERR_OUTPUT_WRITE' })
    }
    assert.deepEqual(readdirSync(folder), [])
  })
})

describe('68. disk full: ERR_OUTPUT_WRITE whatever ffmpeg says; the old file is untouched', () => {
  // So many frames that the index is longer than a page: some sizes hold the frames and not the index before them.
  const many = new Video({ width: 16, height: 16, fps: 30, data: noise(16 * 16 * 3 * 400) })

  test('at every file size limit', async () => {
    const size = readFileSync(await many.save(join(folder, 'whole.mp4'))).length
    const target = join(folder, 'a.mp4')
    writeFileSync(target, 'old')
    const blocks = Math.floor((size - 1) / 512)
    for (const limit of [0, 1, blocks >> 1, blocks - 8, blocks - 4, blocks - 2, blocks - 1, blocks]) {
      const ffmpeg = join(tools, `limited-${limit}`)
      // With SIGXFSZ ignored a write past the limit fails as on a full disk. Only the encoding run is limited.
      const script = `case "$*" in *rawvideo*) trap '' XFSZ; ulimit -f ${limit};; esac\nexec '${real}' "$@"\n`
      writeFileSync(ffmpeg, `#!/bin/sh\n${script}`, { mode: 0o755 })
      await assert.rejects(
        many.save(target, { ffmpeg, overwrite: true }),
        { code: 'ERR_OUTPUT_WRITE' },
        `${limit}`,
      )
      assert.equal(readFileSync(target, 'latin1'), 'old')
      assert.deepEqual(readdirSync(folder).sort(), ['a.mp4', 'whole.mp4'])
    }
  })

  test('on a full file system', async (t) => {
    const size = readFileSync(await many.save(join(folder, 'whole.mp4'))).length
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk])
    if (mount.status !== 0) return t.skip(`cannot mount a tmpfs: ${mount.stderr ?? mount.error}`)
    try {
      writeFileSync(join(disk, 'a.mp4'), 'old')
      const pages = Math.floor((size - 1) / 4096)
      for (const free of [0, 1, pages - 1, pages]) {
        // The old file takes one page.
        spawnSync('mount', ['-o', `remount,size=${(free + 1) * 4096}`, disk])
        for (const name of ['a.mp4', 'a.gif', '%d.png']) {
          if (name !== 'a.mp4' && free > 1) continue
          await assert.rejects(
            many.save(join(disk, name), { overwrite: true }),
            { code: 'ERR_OUTPUT_WRITE' },
            `${name} in ${free} pages`,
          )
          assert.equal(readFileSync(join(disk, 'a.mp4'), 'latin1'), 'old')
          assert.deepEqual(readdirSync(disk), ['a.mp4'])
        }
      }
    } finally {
      spawnSync('umount', [disk])
    }
  })
})

describe('what is sent', () => {
  test('69. a frame of wrong byte length: ERR_INTERNAL before anything is written', async () => {
    const gone = video()
    structuredClone(gone.data, { transfer: [gone.data.buffer as ArrayBuffer] })
    await assert.rejects(gone.save(join(folder, 'a.mp4')), { code: 'ERR_INTERNAL' })
    assert.throws(() => gone.stream('mp4'), { code: 'ERR_INTERNAL' })
    async function* frames() {
      yield new Uint8Array(16 * 16 * 3)
      yield new Uint8Array(16 * 16 * 3 - 1)
    }
    await assert.rejects(
      encodeToFile({ width: 16, height: 16, fps: 8, frames: frames() }, join(folder, 'a.mp4')),
      {
        code: 'ERR_INTERNAL',
      },
    )
    assert.deepEqual(readdirSync(folder), [])
  })

  test('70. zero frames: ERR_INVALID_ARGUMENT', async () => {
    const path = join(folder, 'a.mp4')
    assert.throws(() => new Video({ width: 16, height: 16, fps: 8, data: new Uint8Array(0) }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'data',
    })
    await assert.rejects(exportToVideo([], path), { code: 'ERR_INVALID_ARGUMENT', parameter: 'frames' })
    async function* none() {}
    await assert.rejects(encodeToFile({ width: 16, height: 16, fps: 8, frames: none() }, path), {
      code: 'ERR_INVALID_ARGUMENT',
    })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('71. noisy stderr: no deadlock, the tail is bounded', async () => {
    const shout = `for (let line = 0; line < 50000; line++) fs.writeSync(2, 'line ' + line + ' ' + 'x'.repeat(80) + '\\n')`
    const ffmpeg = standIn(tools, real, `${shout}\npass()`)
    await video().save(join(folder, 'a.mp4'), { ffmpeg })
    const failing = standIn(tools, real, `${shout}\nprocess.exit(1)`, 'failing')
    await assert.rejects(
      video().save(join(folder, 'b.mp4'), { ffmpeg: failing }),
      (error: Error & { stderrTail?: string }) => {
        assert.match(error.stderrTail as string, /line 49999 x+\n$/)
        return (error.stderrTail as string).length <= 4096 && error.message.length < 5000
      },
    )
  })

  test('72. slow encoder: at most two frames in flight', async () => {
    const [width, height, frameCount] = [640, 480, 6]
    const log = join(tools, 'log')
    writeFileSync(log, '')
    // Logs one byte for each whole frame that it has read.
    const ffmpeg = standIn(
      tools,
      real,
      `const length = ${width * height * 3}
let bytes = 0
process.stdin.on('data', (chunk) => {
  const before = Math.floor(bytes / length)
  bytes += chunk.length
  if (Math.floor(bytes / length) > before) fs.appendFileSync(${JSON.stringify(log)}, '.')
})
process.stdin.on('end', () => process.exit(1))`,
    )
    let most = 0
    async function* frames() {
      for (let frame = 0; frame < frameCount; frame++) {
        most = Math.max(most, frame - readFileSync(log).length)
        yield new Uint8Array(width * height * 3)
      }
    }
    await assert.rejects(
      encodeToFile({ width, height, fps: 8, frames: frames() }, join(folder, 'a.mp4'), { ffmpeg }),
      { code: 'ERR_ENCODER_FAILED', exitCode: 1 },
    )
    assert.equal(readFileSync(log).length, frameCount)
    assert.ok(most <= 1, `${most} frames were sent and not read when the next was asked for`)
  })

  test('a source that throws ends ffmpeg, and its error comes through', async () => {
    const failure = new Error('decoder')
    async function* frames() {
      yield new Uint8Array(16 * 16 * 3)
      throw failure
    }
    for (const name of ['a.mp4', '%d.png']) {
      await assert.rejects(
        encodeToFile({ width: 16, height: 16, fps: 8, frames: frames() }, join(folder, name)),
        (error) => error === failure,
      )
    }
    assert.deepEqual(readdirSync(folder), [])
  })
})

describe('where it goes', () => {
  test('73. output exists: ERR_OUTPUT_EXISTS unless overwrite; after a failure the old bytes are unchanged', async () => {
    const target = join(folder, 'a.mp4')
    writeFileSync(target, 'old')
    await assert.rejects(video().save(target), { code: 'ERR_OUTPUT_EXISTS', path: target })
    await assert.rejects(checkSave(target), { code: 'ERR_OUTPUT_EXISTS' })
    const ffmpeg = standIn(tools, real, `fs.writeFileSync(output, 'half'); process.exit(1)`)
    await assert.rejects(video().save(target, { overwrite: true, ffmpeg }), { code: 'ERR_ENCODER_FAILED' })
    assert.equal(readFileSync(target, 'latin1'), 'old')
    assert.deepEqual(readdirSync(folder), ['a.mp4'])
    assert.equal(await video().save(target, { overwrite: true }), target)
    assert.equal(decode(target).frames.length, video().data.length)
  })

  test('73. a file that appears while ffmpeg works is not replaced', async () => {
    const target = join(folder, 'a.mp4')
    const ffmpeg = standIn(tools, real, `fs.writeFileSync(${JSON.stringify(target)}, 'theirs'); pass()`)
    await assert.rejects(video().save(target, { ffmpeg }), { code: 'ERR_OUTPUT_EXISTS', path: target })
    assert.equal(readFileSync(target, 'latin1'), 'theirs')
    assert.deepEqual(readdirSync(folder), ['a.mp4'])
  })

  test('73. overwrite follows a link', async () => {
    writeFileSync(join(folder, 'real.mp4'), 'old')
    symlinkSync('real.mp4', join(folder, 'latest.mp4'))
    await video().save(join(folder, 'latest.mp4'), { overwrite: true })
    assert.equal(decode(join(folder, 'real.mp4')).frames.length, video().data.length)
    assert.equal(realpathSync(join(folder, 'latest.mp4')), join(folder, 'real.mp4'))
  })

  test('74. folder missing, a file for a folder, a folder for a file, a name too long', async () => {
    writeFileSync(join(folder, 'file'), '')
    mkdirSync(join(folder, 'folder.mp4'))
    for (const name of [
      'missing/a.mp4',
      'file/a.mp4',
      'folder.mp4',
      `${'x'.repeat(260)}.mp4`,
      'missing/deep/',
    ]) {
      for (const overwrite of [false, true]) {
        const path = join(folder, name)
        await assert.rejects(video().save(path, { overwrite }), { code: 'ERR_OUTPUT_WRITE' }, name)
        await assert.rejects(checkSave(path, {}, { overwrite }), { code: 'ERR_OUTPUT_WRITE' }, name)
      }
    }
    assert.deepEqual(readdirSync(folder).sort(), ['file', 'folder.mp4'])
  })

  test('74. a folder that takes no files', async (t) => {
    const readOnly = ['/proc', '/sys'].find((path) => existsSync(path))
    if (readOnly === undefined) return t.skip('no /proc and no /sys')
    await assert.rejects(video().save(join(readOnly, 'a.mp4')), { code: 'ERR_OUTPUT_WRITE' })
    await assert.rejects(checkSave(join(readOnly, '%d.png')), { code: 'ERR_OUTPUT_WRITE' })
  })

  test('74. every name is a file of that name, never an option, a pattern or a socket', async () => {
    let connections = 0
    const server = createServer((socket) => {
      connections++
      socket.destroy()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    process.chdir(folder)
    try {
      const host = `127.0.0.1:${port}`
      const names = [
        '-a.mp4',
        '-y.mp4',
        'a:b.mp4',
        `tcp:${port}.mp4`,
        'a%d.mp4',
        'a b.mp4',
        'a\nb.mp4',
        'é🎬.mp4',
      ]
      names.push("it's.mp4", 'a"b.mp4', '[1],x=y;.mp4', `${'x'.repeat(251)}.mp4`, 'A.MP4', 'pipe:1.mp4')
      for (const name of names) {
        assert.equal(await video().save(name), join(folder, name))
        assert.ok(readFileSync(name).length > 0)
      }
      assert.deepEqual(readdirSync('.').sort(), [...names].sort())
      await assert.rejects(video().save(`tcp://${host}/a.mp4`), { code: 'ERR_OUTPUT_WRITE' })
      mkdirSync(`tcp:/${host}`, { recursive: true })
      await video().save(`tcp://${host}/a.mp4`)
      assert.ok(existsSync(join(folder, 'tcp:', host, 'a.mp4')))
      assert.equal(connections, 0)
    } finally {
      process.chdir(startFolder)
      server.close()
    }
  })

  test('74. names that cannot be: ERR_INVALID_ARGUMENT', async () => {
    for (const name of [
      '',
      'a',
      'a.avi',
      'mp4',
      '.mp4',
      'a.mp4\0',
      '%d_%d.png',
      'a.png',
      5,
      new URL('http://a/b.mp4'),
    ]) {
      for (const call of [
        () => video().save(name as string),
        () => checkSave(name as string, { frameCount: 8 }),
      ]) {
        await assert.rejects(call, { code: 'ERR_INVALID_ARGUMENT', parameter: 'path' }, String(name))
      }
    }
    await assert.rejects(video().save('a.avi'), /\.mp4, \.webm or \.gif/)
  })

  test('75. kill -9 of the parent: the final path is absent, the next run sweeps', async () => {
    const target = join(folder, 'a.mp4')
    const ffmpeg = standIn(tools, real, stall(`${target}.started`))
    using _ = withEnvironment({ STAND_IN_ENDS_WITH_STDIN: '1' })
    const script = fileURLToPath(new URL('support/save_child.js', import.meta.url))
    const child = spawn(process.execPath, [script, new URL('video.js', dist).href, ffmpeg, target])
    await until(() => existsSync(`${target}.started`))
    child.kill('SIGKILL')
    await once(child, 'exit')
    rmSync(`${target}.started`)
    assert.equal(existsSync(target), false)
    assert.match(readdirSync(folder).join(), /^\.torchreel-[^,]*$/)
    await video().save(target)
    assert.deepEqual(readdirSync(folder), ['a.mp4'])
  })

  test('75. process.exit in the middle: no file, no ffmpeg', async () => {
    const target = join(folder, 'a.mp4')
    const ffmpeg = standIn(tools, real, stall(`${target}.started`))
    const script = fileURLToPath(new URL('support/save_child.js', import.meta.url))
    const child = spawn(process.execPath, [script, new URL('video.js', dist).href, ffmpeg, target, 'exit'])
    assert.deepEqual(await once(child, 'exit'), [0, null])
    const pid = Number(readFileSync(`${target}.started`, 'latin1'))
    await until(() => isGone(pid))
    assert.deepEqual(readdirSync(folder), ['a.mp4.started'])
  })

  test('75. the temporary file of a living process is left alone', async () => {
    const started = join(tools, 'started')
    const stop = new AbortController()
    const saving = video().save(join(folder, 'slow.mp4'), {
      ffmpeg: standIn(tools, real, stall(started)),
      signal: stop.signal,
    })
    await until(() => existsSync(started))
    await video().save(join(folder, 'a.mp4'))
    assert.equal(readdirSync(folder).length, 2)
    stop.abort()
    await assert.rejects(saving, { name: 'AbortError' })
    assert.deepEqual(readdirSync(folder), ['a.mp4'])
  })
})

describe('15. abort', () => {
  test('rejects with signal.reason; the child is killed; nothing stays', async () => {
    const started = join(tools, 'started')
    const ffmpeg = standIn(tools, real, stall(started))
    for (const run of [
      (signal: AbortSignal) => video().save(join(folder, 'a.mp4'), { ffmpeg, signal }),
      (signal: AbortSignal) => video().toBuffer('webm', { ffmpeg, signal }),
    ]) {
      rmSync(started, { force: true })
      const stop = new AbortController()
      const running = run(stop.signal)
      await until(() => existsSync(started) && readFileSync(started).length > 0)
      const reason = new Error('enough')
      stop.abort(reason)
      await assert.rejects(running, (error) => error === reason)
      await until(() => isGone(Number(readFileSync(started, 'latin1'))))
      assert.deepEqual(readdirSync(folder), [])
    }
  })

  test('before the call nothing is touched, after it no listener is left', async () => {
    const stop = new AbortController()
    await video().save(join(folder, 'a.mp4'), { signal: stop.signal })
    await video().save(join(folder, 'b_%d.png'), { signal: stop.signal })
    assert.equal(getEventListeners(stop.signal, 'abort').length, 0)
    rmSync(folder, { recursive: true })
    stop.abort()
    await assert.rejects(video().save(join(folder, 'a.mp4'), { signal: stop.signal }), { name: 'AbortError' })
  })

  test('destroying a stream ends ffmpeg', async () => {
    const started = join(tools, 'started')
    const stream = video().stream('mp4', { ffmpeg: standIn(tools, real, stall(started)) })
    await until(() => existsSync(started) && readFileSync(started).length > 0)
    stream.destroy()
    await until(() => isGone(Number(readFileSync(started, 'latin1'))))
  })
})

describe('76. what comes out is what went in', () => {
  const formats = [
    { name: 'a.mp4', codec: /h264 \(High\).*yuv420p/, tolerance: 3 },
    { name: 'a.webm', codec: /vp[89].*yuv420p/, tolerance: 3 },
    { name: 'a.gif', codec: /gif/, tolerance: 16 },
  ]

  for (const { name, codec, tolerance } of formats) {
    test(`${name}: size, frames, rate and colours`, async () => {
      const made = video(64, 48, 8, 10)
      const path = await made.save(join(folder, name))
      const { line, frames, ...rest } = decode(path)
      assert.deepEqual(rest, { width: 64, height: 48, fps: 10 })
      assert.match(line, codec)
      assert.ok(difference(frames, made.data) < tolerance, `${difference(frames, made.data)}`)
    })

    test(`${name}: frames that do not change, and a single one, are all there`, async () => {
      const still = new Video({
        width: 32,
        height: 32,
        fps: 8,
        data: new Uint8Array(32 * 32 * 3 * 20).fill(90),
      })
      assert.equal(decode(await still.save(join(folder, name))).frames.length, still.data.length)
      const single = video(32, 32, 1)
      assert.equal(decode(await single.save(join(folder, `1${name}`))).frames.length, single.data.length)
    })

    test(`${name}: an odd size loses nothing`, async () => {
      const made = video(65, 49, 4)
      const { width, height, frames } = decode(await made.save(join(folder, name)))
      assert.deepEqual([width, height], name === 'a.gif' ? [65, 49] : [66, 50])
      const cropped = Uint8Array.from({ length: made.data.length }, (_, at) => {
        const [frame, rest] = [Math.floor(at / (65 * 49 * 3)), at % (65 * 49 * 3)]
        const [y, x] = [Math.floor(rest / (65 * 3)), rest % (65 * 3)]
        return frames[(frame * height + y) * width * 3 + x] as number
      })
      assert.ok(difference(cropped, made.data) < tolerance, `${difference(cropped, made.data)}`)
      await video(1, 1, 2).save(join(folder, `tiny-${name}`))
    })

    test(`${name}: toBuffer`, async () => {
      const made = video(64, 48, 8, 10)
      const path = join(folder, name)
      writeFileSync(path, await made.toBuffer(name.slice(2) as 'mp4' | 'webm' | 'gif'))
      const { frames, fps } = decode(path)
      assert.equal(fps, 10)
      assert.ok(difference(frames, made.data) < tolerance, `${difference(frames, made.data)}`)
    })
  }

  test('an mp4 file has its index before its frames; an mp4 stream is fragmented', async () => {
    const file = boxes(readFileSync(await video().save(join(folder, 'a.mp4'))))
    assert.ok(file.indexOf('moov') < file.indexOf('mdat'), file.join())
    const stream = boxes(await video().toBuffer('mp4'))
    assert.ok(stream.indexOf('moov') < stream.indexOf('moof'), stream.join())
  })

  test('PNG sequences are exact', async () => {
    const made = video(33, 17, 11)
    const names = async (path: string) => {
      await made.save(path)
      return readdirSync(join(path, '..')).length
    }
    mkdirSync(join(folder, 'plain'))
    assert.equal(await names(join(folder, 'plain', 'x%dy.png')), 11)
    assert.ok(existsSync(join(folder, 'plain', 'x11y.png')))
    assert.deepEqual(decode(join(folder, 'plain', 'x%dy.png')).frames, Buffer.from(made.data))
    assert.equal(await made.save(`${join(folder, 'new')}/`), join(folder, 'new', 'frame_%04d.png'))
    assert.equal(readdirSync(join(folder, 'new'))[10], 'frame_0011.png')
    assert.deepEqual(decode(join(folder, 'new', 'frame_%04d.png')).frames, Buffer.from(made.data))
    await video(16, 16, 1).save(join(folder, 'single.png'))
  })

  test('a PNG sequence is placed as a whole, and never mixed with a longer one', async () => {
    const path = `${join(folder, 'frames')}/`
    await video(16, 16, 5).save(path)
    const before = readFileSync(join(path, 'frame_0001.png'))
    rmSync(join(path, 'frame_0001.png'))
    await assert.rejects(video(16, 16, 5).save(path), { code: 'ERR_OUTPUT_EXISTS' })
    assert.equal(readdirSync(path).length, 4)
    await assert.rejects(video(16, 16, 3).save(path, { overwrite: true }), /longer sequence/)
    await video(16, 16, 5).save(path, { overwrite: true })
    assert.deepEqual(readFileSync(join(path, 'frame_0001.png')), before)
  })
})

describe('arguments', () => {
  test('exportToVideo takes a Video, images, or bytes with a size', async () => {
    const made = video(64, 48, 4, 12)
    const bytes = Array.from({ length: 4 }, (_, index) => made.frame(index))
    const images = bytes.map((data) => ({ width: 64, height: 48, data }))
    const rates: number[] = []
    for (const frames of [made, images, bytes]) {
      const path = join(folder, `${rates.length}.mp4`)
      const size = frames === bytes ? { width: 64, height: 48 } : {}
      const { fps, frames: decoded } = decode(await exportToVideo(frames, path, { ...size, crf: 10 }))
      assert.ok(difference(decoded, made.data) < 3)
      rates.push(fps)
    }
    assert.deepEqual(rates, [12, 8, 8])
  })

  test('mistakes fail before ffmpeg is looked for', async () => {
    using _ = withEnvironment({ FFMPEG_PATH: '/nowhere/ffmpeg' })
    const image = { width: 16, height: 16, data: new Uint8Array(16 * 16 * 3) }
    const path = join(folder, 'a.mp4')
    const cases: [parameter: string, () => Promise<unknown>][] = [
      ['width', () => exportToVideo([image.data], path)],
      ['frames[1]', () => exportToVideo([image, { ...image, width: 8 }], path)],
      ['frames[0]', () => exportToVideo([{ ...image, data: new Uint8Array(16 * 16 * 4) }], path)],
      ['frames[0]', () => exportToVideo([[1, 2, 3] as unknown as Uint8Array], path)],
      ['frames', () => exportToVideo('frames' as unknown as [], path)],
      ['fps', () => exportToVideo([image], path, { fps: 0 })],
      ['fps', () => exportToVideo([image], path, { fps: Number.NaN })],
      ['fps', () => exportToVideo([image], join(folder, 'a.gif'), { fps: 60 })],
      ['fps', () => exportToVideo([image], path, { fps: '8' as unknown as number })],
      ['crf', () => exportToVideo([image], path, { crf: 0 })],
      ['crf', () => exportToVideo([image], path, { crf: 52 })],
      ['crf', () => exportToVideo([image], join(folder, 'a.gif'), { crf: 18 })],
      ['overwrite', () => exportToVideo([image], path, { overwrite: 'yes' as unknown as boolean })],
      ['overwite', () => exportToVideo([image], path, { overwite: true } as object)],
      ['options', () => video().save(path, null as unknown as object)],
      ['format', () => video().toBuffer('avi' as 'mp4')],
    ]
    for (const [parameter, call] of cases) {
      await assert.rejects(async () => call(), { code: 'ERR_INVALID_ARGUMENT', parameter }, parameter)
    }
    assert.deepEqual(readdirSync(folder), [])
  })

  test('a Video holds its frames as views and its facts as given', () => {
    const made = new Video({
      width: 2,
      height: 1,
      fps: 8,
      data: Uint8Array.from({ length: 12 }, (_, i) => i),
      seed: 7,
    })
    assert.equal(made.frameCount, 2)
    assert.deepEqual([...made.frame(1)], [6, 7, 8, 9, 10, 11])
    assert.equal(made.frame(1).buffer, made.data.buffer)
    assert.deepEqual([made.seed, made.model, made.warnings], [7, undefined, []])
    for (const index of [-1, 2, 0.5, Number.NaN]) {
      assert.throws(() => made.frame(index), { code: 'ERR_INVALID_ARGUMENT', parameter: 'index' })
    }
  })
})
