import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { beforeEach, describe, test } from 'node:test'
import { checkSave, findFfmpeg, Video } from 'torchreel'
import { encodeToFile } from '#dist/video/write/encode.js'
import { noise, standIn } from '../support/stand_in.js'
import { emptyFolders, isGone, real, stall, until, video, withEnvironment } from '../support/video.js'

const newFolders = emptyFolders()
let folder = ''
let tools = ''
beforeEach(() => {
  ;({ folder, tools } = newFolders())
})

describe('finding ffmpeg', () => {
  test('[no-ffmpeg] ffmpeg absent: ERR_ENCODER_NOT_FOUND before there is any frame', async () => {
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

  test('[no-ffmpeg] PNG sequences, animated PNG and plain bytes need no ffmpeg', async () => {
    using _ = withEnvironment({ FFMPEG_PATH: '/nowhere/ffmpeg' })
    for (const name of ['%d.png', 'a.apng', 'a.rgb']) {
      await checkSave(join(folder, name))
      await video().save(join(folder, name))
    }
    assert.equal(readdirSync(folder).length, 10)
    for (const format of ['apng', 'rgb24'] as const) assert.ok((await video().toBuffer(format)).length > 0)
  })

  test('an ffmpeg without the encoder: the message says which lacks what', async () => {
    // It has all encoders but those for WebP and AV1.
    const path = join(tools, 'ffmpeg')
    const script = `case "$*" in *-encoders*) '${real}' "$@" | grep -vE 'webp|av1';; *) exec '${real}' "$@";; esac`
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const cases = [
      ['a.webp', {}, 'libwebp_anim'],
      ['a.webm', { codec: 'av1' }, 'libaom-av1 or libsvtav1'],
    ] as const
    for (const [name, options, encoders] of cases) {
      for (const call of [
        () => video().save(join(folder, name), { ...options, ffmpeg: path }),
        () => checkSave(join(folder, name), {}, { ...options, ffmpeg: path }),
        () => video().toBuffer(name.slice(2) as 'webm', { ...options, ffmpeg: path }),
      ]) {
        await assert.rejects(call, (error: Error & { code?: string }) => {
          assert.equal(error.code, 'ERR_ENCODER_NOT_FOUND')
          assert.ok(error.message.includes(`option: ${path}: it has no encoder ${encoders}`), error.message)
          return true
        })
      }
    }
    assert.deepEqual(readdirSync(folder), [])
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
  test('[aborted-in-video] it never answers: aborting ends the wait, for each caller by itself', async () => {
    const ffmpeg = join(tools, 'silent')
    writeFileSync(ffmpeg, '#!/bin/sh\nexec sleep 3\n', { mode: 0o755 })
    const one = new AbortController()
    const other = new AbortController()
    const saves = [one, other].map(({ signal }, index) =>
      video(32, 32, 2).save(join(folder, `${index}.mp4`), { ffmpeg, signal }),
    )
    one.abort('enough')
    await assert.rejects(saves[0] as Promise<string>, (reason) => reason === 'enough')
    other.abort('of it')
    await assert.rejects(saves[1] as Promise<string>, (reason) => reason === 'of it')
    assert.deepEqual(readdirSync(folder), [])
  })

  test('[ffmpeg-leaves] it leaves early: ERR_ENCODER_FAILED with what it said', async () => {
    const ffmpeg = standIn(tools, real, `process.stderr.write('no more\\n', () => process.exit(3))`)
    await assert.rejects(video(640, 480, 8).save(join(folder, 'a.mp4'), { ffmpeg }), {
      code: 'ERR_ENCODER_FAILED',
      exitCode: 3,
      signal: null,
      stderrTail: 'no more\n',
    })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('[ffmpeg-leaves] it leaves early and says 0', async () => {
    const ffmpeg = standIn(tools, real, 'process.exit(0)')
    await assert.rejects(video(640, 480, 8).save(join(folder, 'a.mp4'), { ffmpeg }), {
      code: 'ERR_ENCODER_FAILED',
      exitCode: 0,
    })
    await assert.rejects(video(640, 480, 8).toBuffer('mp4', { ffmpeg }), { code: 'ERR_ENCODER_FAILED' })
    assert.deepEqual(readdirSync(folder), [])
  })

  test('[ffmpeg-leaves] it ends, and what it started holds its stderr open', async () => {
    const child = join(tools, 'child')
    const ffmpeg = standIn(
      tools,
      real,
      `const stdio = ['ignore', 'ignore', 'inherit']
      require('node:child_process').spawn('sh', ['-c', 'echo $$ > ${child}; exec sleep 1000'], { stdio })
      setInterval(() => fs.existsSync('${child}') && process.exit(3), 10)`,
    )
    await assert.rejects(video().save(join(folder, 'a.mp4'), { ffmpeg }), { exitCode: 3 })
    process.kill(Number(readFileSync(child, 'latin1')))
  })

  test('[ffmpeg-killed] it is killed: ERR_ENCODER_FAILED with the signal, no partial file', async () => {
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
    for (const name of ['a.mp4', 'a.gif', 'a.webp']) {
      await assert.rejects(
        video().save(join(folder, name), { ffmpeg: dropping }),
        (error: Error & { code?: string }) => {
          // It may also leave before it has read the last frame.
          assert.ok(['ERR_OUTPUT_WRITE', 'ERR_ENCODER_FAILED'].includes(error.code as string), error.message)
          return true
        },
      )
    }
    const halving = standIn(
      tools,
      real,
      `spawnSync(real, args, { stdio: 'inherit' }); fs.truncateSync(output, fs.statSync(output).size >> 1)`,
      'halving',
    )
    for (const name of ['a.mp4', 'a.webm', 'a.gif', 'a.webp']) {
      const noisy = new Video({ width: 64, height: 48, fps: 8, data: noise(64 * 48 * 3 * 8) })
      await assert.rejects(noisy.save(join(folder, name), { ffmpeg: halving }), { code: 'ERR_OUTPUT_WRITE' })
    }
    assert.deepEqual(readdirSync(folder), [])
  })
})

describe('[disk-full] disk full: ERR_OUTPUT_WRITE whatever ffmpeg says; the old file is untouched', () => {
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
        for (const name of ['a.mp4', 'a.gif', 'a.webp', 'a.apng', 'a.rgb', '%d.png']) {
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

describe('[aborted-in-video] abort', () => {
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

  test('a format that needs no ffmpeg', async () => {
    const reason = new Error('enough')
    for (const format of ['apng', 'rgb24'] as const) {
      const stop = new AbortController()
      const running = video(640, 480, 8).toBuffer(format, { signal: stop.signal })
      stop.abort(reason)
      await assert.rejects(running, (error) => error === reason)
      assert.equal(getEventListeners(stop.signal, 'abort').length, 0)
      const stream = video(640, 480, 8).stream(format)
      stream.destroy()
      await finished(stream).catch(() => {})
    }
    async function* frames(stop: AbortController) {
      yield new Uint8Array(16 * 16 * 3)
      stop.abort(reason)
      yield new Uint8Array(16 * 16 * 3)
    }
    for (const name of ['a.apng', 'a.rgb', '%d.png']) {
      const stop = new AbortController()
      const source = { width: 16, height: 16, fps: 8, frames: frames(stop) }
      await assert.rejects(
        encodeToFile(source, join(folder, name), { signal: stop.signal, sidecar: true }),
        (error) => error === reason,
      )
    }
    assert.deepEqual(readdirSync(folder), [])
  })

  test('destroying a stream ends ffmpeg', async () => {
    const started = join(tools, 'started')
    const stream = video().stream('mp4', { ffmpeg: standIn(tools, real, stall(started)) })
    await until(() => existsSync(started) && readFileSync(started).length > 0)
    stream.destroy()
    await until(() => isGone(Number(readFileSync(started, 'latin1'))))
  })
})
