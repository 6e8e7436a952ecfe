import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, test } from 'node:test'
import { Video, type VideoFormat } from 'torchreel'
import { decode, difference, emptyFolders, video } from '../support/video.js'

const newFolders = emptyFolders()
let folder = ''
beforeEach(() => {
  ;({ folder } = newFolders())
})

/** The types of an mp4's top-level boxes, in order. */
function boxes(mp4: Buffer): string[] {
  const types: string[] = []
  for (let at = 0; at < mp4.length; at += mp4.readUInt32BE(at))
    types.push(mp4.toString('latin1', at + 4, at + 8))
  return types
}

describe('[saved-content] what comes out is what went in', () => {
  const formats = [
    { name: 'a.mp4', codec: /h264 \(High\).*yuv420p/, tolerance: 3 },
    { name: 'a.webm', codec: /vp[89].*yuv420p/, tolerance: 3 },
    { name: 'a.gif', codec: /gif/, tolerance: 5 },
    { name: 'a.webp', codec: /webp/, tolerance: 3 },
    { name: 'a.apng', codec: /apng.*rgb24/, tolerance: 0 },
  ]

  for (const { name, codec, tolerance } of formats) {
    test(`${name}: size, frames, rate and colours`, async () => {
      const made = video(64, 48, 8, 10)
      const path = await made.save(join(folder, name))
      const { line, frames, ...rest } = decode(path)
      assert.deepEqual(rest, { width: 64, height: 48, fps: 10 })
      assert.match(line, codec)
      assert.ok(difference(frames, made.data) <= tolerance, `${difference(frames, made.data)}`)
    })

    test(`${name}: frames that do not change, and a single one, are all there`, async () => {
      const still = new Video({
        width: 32,
        height: 32,
        fps: 8,
        data: new Uint8Array(32 * 32 * 3 * 20).fill(90),
      })
      const shown = decode(await still.save(join(folder, name))).frames
      // A webp merges identical frames, and a file of one frame has no duration.
      assert.equal(shown.length, still.data.length / (name === 'a.webp' ? 20 : 1))
      const single = video(32, 32, 1)
      assert.equal(decode(await single.save(join(folder, `1${name}`))).frames.length, single.data.length)
    })

    test(`${name}: an odd size loses nothing`, async () => {
      const made = video(65, 49, 4)
      const { width, height, frames } = decode(await made.save(join(folder, name)))
      assert.deepEqual([width, height], ['a.mp4', 'a.webm'].includes(name) ? [66, 50] : [65, 49])
      const cropped = Uint8Array.from({ length: made.data.length }, (_, at) => {
        const [frame, rest] = [Math.floor(at / (65 * 49 * 3)), at % (65 * 49 * 3)]
        const [y, x] = [Math.floor(rest / (65 * 3)), rest % (65 * 3)]
        return frames[(frame * height + y) * width * 3 + x] as number
      })
      assert.ok(difference(cropped, made.data) <= tolerance, `${difference(cropped, made.data)}`)
      await video(1, 1, 2).save(join(folder, `tiny-${name}`))
    })

    test(`${name}: toBuffer`, async () => {
      const made = video(64, 48, 8, 10)
      const path = join(folder, name)
      writeFileSync(path, await made.toBuffer(name.slice(2) as VideoFormat))
      const { frames, fps } = decode(path)
      assert.equal(fps, 10)
      assert.ok(difference(frames, made.data) <= tolerance, `${difference(frames, made.data)}`)
    })
  }

  test('an mp4 file has its index before its frames; an mp4 stream is fragmented', async () => {
    const file = boxes(readFileSync(await video().save(join(folder, 'a.mp4'))))
    assert.ok(file.indexOf('moov') < file.indexOf('mdat'), file.join())
    const stream = boxes(await video().toBuffer('mp4'))
    assert.ok(stream.indexOf('moov') < stream.indexOf('moof'), stream.join())
  })

  test('an animated PNG numbers its chunks and says how long a frame is shown', async () => {
    for (const [fps, delay] of [
      [8, [1, 8]],
      [12.5, [10, 125]],
      [23.976, [1000, 23976]],
      [29.97, [100, 2997]],
      [80.123, [100, 8012]],
    ] as const) {
      const png = await video(20, 10, 3, fps).toBuffer('apng')
      const types: string[] = []
      const numbers: number[] = []
      for (let at = 8; at < png.length; at += png.readUInt32BE(at) + 12) {
        const type = png.toString('latin1', at + 4, at + 8)
        types.push(type)
        if (type === 'acTL') assert.deepEqual([png.readUInt32BE(at + 8), png.readUInt32BE(at + 12)], [3, 0])
        if (type === 'fcTL' || type === 'fdAT') numbers.push(png.readUInt32BE(at + 8))
        if (type === 'fcTL') assert.deepEqual([png.readUInt16BE(at + 28), png.readUInt16BE(at + 30)], delay)
      }
      assert.equal(types.join(' '), 'IHDR acTL fcTL IDAT fcTL fdAT fcTL fdAT IEND')
      assert.deepEqual(numbers, [0, 1, 2, 3, 4])
    }
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
