import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, beforeEach, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkSave } from 'torchreel'
import { standIn } from '../support/stand_in.js'
import { decode, emptyFolders, isGone, real, stall, until, video, withEnvironment } from '../support/video.js'

const newFolders = emptyFolders()
let folder = ''
let tools = ''
beforeEach(() => {
  ;({ folder, tools } = newFolders())
})

const startFolder = process.cwd()
after(() => process.chdir(startFolder))

describe('where it goes', () => {
  test('[output-exists] output exists: ERR_OUTPUT_EXISTS unless overwrite; after a failure the old bytes are unchanged', async () => {
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

  test('[output-exists] a file that appears while ffmpeg works is not replaced', async () => {
    const target = join(folder, 'a.mp4')
    const ffmpeg = standIn(tools, real, `fs.writeFileSync(${JSON.stringify(target)}, 'theirs'); pass()`)
    await assert.rejects(video().save(target, { ffmpeg }), { code: 'ERR_OUTPUT_EXISTS', path: target })
    assert.equal(readFileSync(target, 'latin1'), 'theirs')
    assert.deepEqual(readdirSync(folder), ['a.mp4'])
  })

  test('[output-exists] overwrite follows a link', async () => {
    writeFileSync(join(folder, 'real.mp4'), 'old')
    symlinkSync('real.mp4', join(folder, 'latest.mp4'))
    await video().save(join(folder, 'latest.mp4'), { overwrite: true })
    assert.equal(decode(join(folder, 'real.mp4')).frames.length, video().data.length)
    assert.equal(realpathSync(join(folder, 'latest.mp4')), join(folder, 'real.mp4'))
  })

  test('[output-names] folder missing, a file for a folder, a folder for a file, a name too long', async () => {
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

  test('[output-names] a folder that takes no files', async (t) => {
    const readOnly = ['/proc', '/sys'].find((path) => existsSync(path))
    if (readOnly === undefined) return t.skip('no /proc and no /sys')
    await assert.rejects(video().save(join(readOnly, 'a.mp4')), { code: 'ERR_OUTPUT_WRITE' })
    await assert.rejects(checkSave(join(readOnly, '%d.png')), { code: 'ERR_OUTPUT_WRITE' })
  })

  test('[output-names] every name is a file of that name, never an option, a pattern or a socket', async () => {
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

  test('[output-names] names that cannot be: ERR_INVALID_ARGUMENT', async () => {
    for (const name of [
      '',
      'a',
      'a.avi',
      'a.rgb24',
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
    await assert.rejects(video().save('a.avi'), /\.mp4, \.mov, \.mkv, \.webm, \.gif, \.webp, \.apng or \.rgb/)
  })

  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const) {
    test(`[kill-signals, killed-while-saving] ${signal} of the parent: the final path is absent, no ffmpeg is left, the next run sweeps`, async () => {
      const target = join(folder, 'a.mp4')
      const ffmpeg = standIn(tools, real, stall(`${target}.started`))
      using _ = withEnvironment({ STAND_IN_ENDS_WITH_STDIN: '1' })
      const script = fileURLToPath(new URL('../support/save_child.js', import.meta.url))
      const child = spawn(process.execPath, [script, import.meta.resolve('torchreel'), ffmpeg, target])
      await until(() => existsSync(`${target}.started`) && readFileSync(`${target}.started`).length > 0)
      const pid = Number(readFileSync(`${target}.started`, 'latin1'))
      child.kill(signal)
      assert.deepEqual(await once(child, 'exit'), [null, signal])
      await until(() => isGone(pid))
      rmSync(`${target}.started`)
      assert.equal(existsSync(target), false)
      assert.match(readdirSync(folder).join(), /^\.torchreel-[^,]*$/)
      await video().save(target)
      assert.deepEqual(readdirSync(folder), ['a.mp4'])
    })
  }

  test('[killed-while-saving] process.exit in the middle: no file, no ffmpeg', async () => {
    const target = join(folder, 'a.mp4')
    const ffmpeg = standIn(tools, real, stall(`${target}.started`))
    const script = fileURLToPath(new URL('../support/save_child.js', import.meta.url))
    const child = spawn(process.execPath, [script, import.meta.resolve('torchreel'), ffmpeg, target, 'exit'])
    assert.deepEqual(await once(child, 'exit'), [0, null])
    const pid = Number(readFileSync(`${target}.started`, 'latin1'))
    await until(() => isGone(pid))
    assert.deepEqual(readdirSync(folder), ['a.mp4.started'])
  })

  test('[killed-while-saving] the temporary file of a living process is left alone', async () => {
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
