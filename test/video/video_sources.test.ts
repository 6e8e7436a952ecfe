// Videos that people have: files with varying frame rates, pictures, and files that name other files.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { TextToVideoPipeline, Video } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'
import { decode, emptyFolders, ffmpeg, video } from '../support/video.js'

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())
const folders = emptyFolders()
const { folder } = folders()

/** A call that changes nothing: the source's frames are what it is about. */
const generate = (source: string | URL, frames?: number) =>
  pipeline.generate('a', { video: source, strength: 0.5, steps: 2, seed: 1, ...(frames && { frames }) })

const refused = (file: string) =>
  assert.rejects(generate(file), (error: { code: string; message: string }) => {
    assert.equal(error.code, 'ERR_INVALID_ARGUMENT')
    assert.match(error.message, /^video: ffmpeg cannot read .*(playlist|other files)/s)
    return true
  })

describe('the frame rate of a source', () => {
  test('that varies: each frame is read once, at the mean rate, with a warning', async () => {
    const file = join(folder, 'recorded.webm')
    const shown = [0, 8, 43, 100, 101, 350, 351, 352, 610, 1000] // milliseconds
    const chosen = shown.map((time) => `eq(n,${time})`).join('+')
    const source = ['-f', 'lavfi', '-i', 'testsrc=size=32x32:rate=1000:duration=1.1']
    ffmpeg([...source, '-vf', `select='${chosen}'`, '-vsync', '0', '-c:v', 'libvpx', file])
    const made = await generate(file)
    assert.equal(made.frameCount, shown.length)
    assert.equal(made.fps, 9)
    assert.match(
      made.warnings.join('\n'),
      /the frame rate of video varies: 10 frames were read, 9 per second on average/,
    )
    const first = await generate(file, 4)
    assert.equal(first.frameCount, 4)
    assert.equal(first.fps, 30) // three steps in 100 ms
    assert.deepEqual(first.frame(0).length, made.frame(0).length)
  })

  test('that is constant stays as it is, in every container', async () => {
    for (const [name, fps] of [
      ...[['a.mp4', 8] as const, ['b.mp4', 30000 / 1001] as const, ['a.gif', 8] as const],
      ...[['a.webm', 12] as const, ['a.mkv', 24] as const, ['a.mov', 25] as const, ['a.apng', 7] as const],
      ...[['b.gif', 12] as const, ['c.gif', 24] as const, ['d.gif', 30] as const, ['e.gif', 12.5] as const],
    ]) {
      await video(32, 32, 16, fps).save(join(folder, name), { overwrite: true })
      const made = await generate(join(folder, name))
      assert.equal(made.frameCount, 16, name)
      assert.ok(Math.abs(made.fps - fps) < 0.01, `${name}: ${made.fps}`)
      assert.deepEqual(made.warnings, [...pipeline.warnings], name)
    }
  })

  test('of a raw stream, which has no times, is the one that its header tells', async () => {
    const file = join(folder, 'raw.h264')
    ffmpeg(['-f', 'lavfi', '-i', 'testsrc=size=32x32:rate=8:duration=1', '-c:v', 'libx264', '-bf', '2', file])
    const made = await generate(file)
    assert.equal(made.frameCount, 8)
    assert.equal(made.fps, 8)
    assert.deepEqual(made.warnings, [...pipeline.warnings])
  })

  test('above what any file can have is lowered, with a warning', async () => {
    const file = join(folder, 'fast.mkv')
    ffmpeg(['-f', 'lavfi', '-i', 'testsrc=size=32x32:rate=1000:duration=0.004', '-c:v', 'libx264', file])
    const made = await generate(file)
    assert.deepEqual([made.frameCount, made.fps], [4, 240])
    assert.match(made.warnings.join('\n'), /the frame rate of video, 1000, becomes 240/)
  })
})

describe('files that name other files', () => {
  const secret = join(folder, 'secret.mp4')

  test('playlists and lists are refused, whatever they are called', async () => {
    await video(32, 32, 4, 8).save(secret, { overwrite: true })
    const list = 'ffconcat version 1.0\nfile secret.mp4\n'
    const playlist = '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n'
    for (const [name, text] of [
      ...[['list.mp4', list] as const, ['list.ffconcat', list] as const, ['list.gif', list] as const],
      ...[['play.mp4', playlist] as const, ['play.m3u8', playlist] as const],
    ]) {
      writeFileSync(join(folder, name), text)
      await refused(join(folder, name))
      await assert.rejects(generate(pathToFileURL(join(folder, name))), { code: 'ERR_INVALID_ARGUMENT' })
    }
  })

  test('descriptions of streams and manifests are refused', async () => {
    const sdp = 'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n'
    const mpd =
      '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>' +
      '<Representation id="1"><BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>'
    for (const [name, text] of [
      ['a.sdp', sdp],
      ['sdp.mp4', sdp],
      ['a.mpd', mpd],
      ['mpd.mp4', mpd],
    ] as const) {
      writeFileSync(join(folder, name), text)
      await assert.rejects(generate(join(folder, name)), { code: 'ERR_INVALID_ARGUMENT' })
    }
  })

  test('protocols in a name are names of files, which are not there', async () => {
    for (const name of [
      `concat:${secret}|${secret}`,
      `subfile,,start,0,end,0,,:${secret}`,
      'http://127.0.0.1/a',
    ]) {
      await assert.rejects(generate(name), { code: 'ERR_INVALID_ARGUMENT' })
    }
  })

  test('a picture whose name is a pattern is that picture, and not its neighbours', async () => {
    const picture = (value: number) =>
      new Video({ width: 32, height: 32, fps: 1, data: new Uint8Array(32 * 32 * 3).fill(value) })
    const png = (name: string, value: number) => picture(value).save(join(folder, name), { overwrite: true })
    await png('wanted.png', 255)
    for (const index of [1, 2, 3]) await png(`frame${index}.png`, 0)
    const pattern = join(folder, 'frame%d.png')
    writeFileSync(pattern, (await picture(255).toBuffer('png')) as Uint8Array)
    const [made, wanted] = [await generate(pattern), await generate(join(folder, 'wanted.png'))]
    assert.equal(made.frameCount, 1)
    assert.deepEqual(made.data, wanted.data)
  })
})

describe('containers that are written', () => {
  test('.mov and .mkv hold the frames, and so do their buffers', async () => {
    const made = video(32, 32, 6, 8)
    for (const [name, options] of [
      ['x.mov', {}],
      ['x.mkv', {}],
      ['v.mkv', { codec: 'vp9' }],
      ['v.mov', { crf: 10 }],
    ] as const) {
      const file = await made.save(join(folder, name), { ...options, overwrite: true })
      const { width, fps, frames } = decode(file)
      assert.deepEqual([width, fps, frames.length], [32, 8, made.data.length], name)
      const buffered = join(folder, `buffered-${name}`)
      writeFileSync(buffered, await made.toBuffer(name.slice(-3) as 'mov', options))
      assert.equal(decode(buffered).frames.length, made.data.length, name)
    }
  })

  test('AV1 as a buffer is the file', async () => {
    const made = video(64, 64, 4, 8)
    const buffer = await made.toBuffer('webm', { codec: 'av1' })
    writeFileSync(join(folder, 'av1.webm'), buffer)
    const decoded = decode(join(folder, 'av1.webm'))
    assert.match(decoded.line, /av1/)
    assert.equal(decoded.frames.length, made.data.length)
  })

  test('an animated WebP as a source gives its frames, or the advice to convert it', async () => {
    const file = join(folder, 'moving.webp')
    await video(32, 32, 4, 8).save(file)
    const outcome = await generate(file).then(
      (made) => `${made.frameCount} frames`,
      (error: Error) => error.message,
    )
    assert.match(outcome, /^4 frames$|cannot read an animated WebP; convert it to mp4, gif or apng first$/)
  })
})
