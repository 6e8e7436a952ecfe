import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, test } from 'node:test'
import { exportToVideo, Video } from 'torchreel'
import { encodeToFile } from '#dist/video/write/encode.js'
import { standIn } from '../support/stand_in.js'
import { decode, difference, emptyFolders, real, video, withEnvironment } from '../support/video.js'

const newFolders = emptyFolders()
let folder = ''
let tools = ''
beforeEach(() => {
  ;({ folder, tools } = newFolders())
})

describe('what is sent', () => {
  test('[frame-length] a frame of wrong byte length: ERR_INTERNAL before anything is written', async () => {
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

  test('[no-frames] zero frames: ERR_INVALID_ARGUMENT', async () => {
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

  test('[ffmpeg-noise] noisy stderr: no deadlock, the tail is bounded', async () => {
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

  test('[slow-ffmpeg] slow encoder: at most two frames in flight', async () => {
    const [width, height, frameCount] = [640, 480, 6]
    const log = join(tools, 'log')
    writeFileSync(log, '')
    // Logs one byte for each complete frame that it has read.
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
