import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, test } from 'node:test'
import type { VideoEncodeOptions, VideoFormat } from 'torchreel'
import { Video } from 'torchreel'
import { noise, pattern } from '../support/stand_in.js'
import { decode, difference, emptyFolders, found, real, video, withEnvironment } from '../support/video.js'

const newFolders = emptyFolders()
let folder = ''
beforeEach(() => {
  ;({ folder } = newFolders())
})

/** Skips a test where the ffmpeg that is found has none of the encoders. */
function needs(...encoders: string[]): { skip: string | false } {
  const missing = !encoders.some((name) => found.encoders.has(name))
  return {
    skip: missing && `${real} ${found.version} has no ${encoders.join(' or ')}: see ${real} -encoders`,
  }
}

describe('codec and pixel format', () => {
  const choices: [name: string, VideoEncodeOptions, line: RegExp, encoders: string[]][] = [
    ['a.webm', {}, /vp9.*yuv420p/, ['libvpx-vp9']],
    ['a.webm', { codec: 'vp9', pixelFormat: 'yuv444p' }, /vp9 \(Profile 1\), yuv444p/, ['libvpx-vp9']],
    ['a.webm', { codec: 'vp8' }, /vp8.*yuv420p/, ['libvpx']],
    ['a.webm', { codec: 'av1' }, /av1.*yuv420p/, ['libaom-av1', 'libsvtav1']],
    ['a.webm', { codec: 'av1', pixelFormat: 'yuv444p' }, /av1.*yuv444p/, ['libaom-av1']],
    ['a.mp4', { codec: 'h264', pixelFormat: 'yuv422p' }, /h264 \(High 4:2:2\).*yuv422p/, ['libx264']],
    ['a.mp4', { pixelFormat: 'yuv444p' }, /h264 \(High 4:4:4 Predictive\).*yuv444p/, ['libx264']],
  ]
  for (const [name, options, line, encoders] of choices) {
    test(`${name} ${JSON.stringify(options)}`, needs(...encoders), async () => {
      const made = video(96, 64, 4, 10)
      const decoded = decode(await made.save(join(folder, name), options))
      assert.match(decoded.line, line)
      assert.ok(difference(decoded.frames, made.data) < 3, `${difference(decoded.frames, made.data)}`)
    })
  }

  test('a pixel format that shares no colour keeps an odd size', async () => {
    const { width, height } = decode(
      await video(65, 49, 2).save(join(folder, 'a.mp4'), { pixelFormat: 'yuv444p' }),
    )
    assert.deepEqual([width, height], [65, 49])
    const half = decode(await video(65, 49, 2).save(join(folder, 'b.mp4'), { pixelFormat: 'yuv422p' }))
    assert.deepEqual([half.width, half.height], [66, 49])
  })
})

describe('quality and bit rate', () => {
  const noisy = new Video({ width: 96, height: 64, fps: 10, data: noise(96 * 64 * 3 * 20) })
  const size = async (format: VideoFormat, options: VideoEncodeOptions) =>
    (await noisy.toBuffer(format, options)).length

  test('crf and quality: the better, the larger and the nearer', async () => {
    for (const [format, best, worst] of [
      ['mp4', { crf: 10 }, { crf: 40 }],
      ['webm', { crf: 10 }, { crf: 60 }],
      ['webp', { quality: 95 }, { quality: 20 }],
    ] as const) {
      assert.ok((await size(format, best)) > 1.5 * (await size(format, worst)), format)
      const errors: number[] = []
      for (const options of [best, worst]) {
        const path = join(folder, `${errors.length}.${format}`)
        errors.push(difference(decode(await video().save(path, options)).frames, video().data))
      }
      assert.ok((errors[0] as number) < (errors[1] as number), `${format}: ${errors}`)
    }
  })

  test('bitrate: what it says, within a factor of two', async () => {
    for (const format of ['mp4', 'webm'] as const) {
      for (const bitrate of [200_000, 800_000]) {
        const ratio = ((await size(format, { bitrate })) * 8) / 2 / bitrate
        assert.ok(ratio > 0.5 && ratio < 2, `${format} ${bitrate}: ${ratio}`)
      }
    }
  })

  test("ffmpeg's own arguments reach the encoder, after ours", async () => {
    const path = await video().save(join(folder, 'a.mp4'), {
      ffmpegArguments: ['-preset', 'ultrafast', '-g', '4'],
    })
    // libx264 writes its settings into the stream.
    assert.match(readFileSync(path, 'latin1'), /me=dia .*keyint=4 /)
    const plain = await video().save(join(folder, 'b.mp4'))
    assert.match(readFileSync(plain, 'latin1'), /me=hex .*keyint=250 /)
  })
})

describe('mistakes fail before ffmpeg is looked for', () => {
  const cases: [parameter: string, format: VideoFormat, options: object, message?: RegExp][] = [
    ['codec', 'mp4', { codec: 'av1' }, /one of h264 for mp4/],
    ['codec', 'webm', { codec: 'h264' }, /one of vp9, vp8, av1 for webm/],
    ['codec', 'gif', { codec: 'h264' }, /codec cannot be combined with gif/],
    ['pixelFormat', 'mp4', { pixelFormat: 'rgb24' }, /one of yuv420p, yuv422p, yuv444p/],
    ['pixelFormat', 'webm', { pixelFormat: 'yuv422p', codec: 'av1' }, /one of yuv420p, yuv444p/],
    ['pixelFormat', 'webp', { pixelFormat: 'yuv420p' }, /cannot be combined with/],
    ['crf', 'webp', { crf: 20 }],
    ['crf', 'apng', { crf: 20 }],
    ['quality', 'mp4', { quality: 90 }],
    ['quality', 'webp', { quality: 101 }],
    ['bitrate', 'mp4', { bitrate: 1000, crf: 20 }, /bitrate cannot be combined with crf/],
    ['bitrate', 'mp4', { bitrate: 10 }],
    ['bitrate', 'mp4', { bitrate: Number.NaN }],
    ['bitrate', 'gif', { bitrate: 1e6 }],
    ['fps', 'webp', {}],
    ['fps', 'apng', {}],
    ['format', 'png', {}],
    ['metadata', 'mp4', { metadata: 'no' }],
    ['sidecar', 'mp4', { sidecar: true }],
    ['ffmpegArguments', 'mp4', { ffmpegArguments: '-preset slow' }],
  ]
  for (const [parameter, format, options, message = /./] of cases) {
    test(`${format} ${JSON.stringify(options)}: ${parameter}`, async () => {
      using _ = withEnvironment({ FFMPEG_PATH: '/nowhere/ffmpeg' })
      const fps = parameter === 'fps' ? 100 : 10
      const made = new Video({ width: 16, height: 16, fps, data: pattern(16, 16, 2) })
      await assert.rejects(async () => made.toBuffer(format, options), {
        code: 'ERR_INVALID_ARGUMENT',
        parameter,
        message,
      })
    })
  }
})

describe("ffmpeg's own arguments name no file, no input and no output", () => {
  const refused: string[][] = [
    ['-i', 'secret.png'],
    ['-map', '0'],
    ['other.mp4'],
    ['-preset', 'slow', 'other.mp4'],
    ['-preset'],
    ['-preset', ''],
    ['-preset', 'slow\0'],
    ['-pass', '1', '-passlogfile', 'log'],
    ['-x264-params', 'stats=other'],
    ['-vf', 'movie=secret.png'],
    ['-filter_script:v', 'script'],
    ['-/filter:v', 'script'],
    ['-attach', 'secret'],
    ['-f', 'tee'],
    ['-vstats_file', 'other'],
    ['-progress', 'other'],
    ['-report', '-y'],
    ['--preset', 'slow'],
    ['preset', 'slow'],
    ['-preset:v', 'slow'],
    ['-cpu-used', '4'],
    [5 as unknown as string, 'slow'],
    ['-preset', 5 as unknown as string],
  ]
  for (const ffmpegArguments of refused) {
    test(JSON.stringify(ffmpegArguments), async () => {
      using _ = withEnvironment({ FFMPEG_PATH: '/nowhere/ffmpeg' })
      await assert.rejects(video().save(join(folder, 'a.mp4'), { ffmpegArguments }), {
        code: 'ERR_INVALID_ARGUMENT',
        parameter: 'ffmpegArguments',
      })
      assert.deepEqual(readdirSync(folder), [])
    })
  }

  test('a value that looks like an option or a file is only a value', async () => {
    for (const value of ['-y', 'other.mp4', 'file:other.mp4']) {
      await assert.rejects(
        video().save(join(folder, 'a.mp4'), { ffmpegArguments: ['-preset', value] }),
        { code: 'ERR_ENCODER_FAILED' },
        value,
      )
    }
    assert.deepEqual(readdirSync(folder), [])
  })
})

describe('contact sheet', () => {
  test('frames from left to right and from top to bottom, black where there are no more', async () => {
    const made = new Video({ width: 5, height: 3, fps: 8, data: noise(5 * 3 * 3 * 7), seed: 4 })
    for (const [columns, width, height] of [
      [undefined, 15, 9],
      [7, 35, 3],
      [1, 5, 21],
      [2, 10, 12],
    ] as const) {
      const sheet = made.contactSheet({ columns })
      assert.deepEqual(
        [sheet.width, sheet.height, sheet.frameCount, sheet.seed, sheet.fps],
        [width, height, 1, 4, 8],
      )
      const across = width / 5
      for (let at = 0; at < width * height; at++) {
        const [x, y] = [at % width, Math.floor(at / width)]
        const index = Math.floor(y / 3) * across + Math.floor(x / 5)
        const from = ((y % 3) * 5 + (x % 5)) * 3
        const expected = index < 7 ? [...made.frame(index).subarray(from, from + 3)] : [0, 0, 0]
        assert.deepEqual([...sheet.data.subarray(at * 3, at * 3 + 3)], expected, `${columns}: ${x}, ${y}`)
      }
    }
  })

  test('saved as one PNG', async () => {
    const sheet = video(16, 12, 6).contactSheet()
    const path = await sheet.save(join(folder, 'sheet.png'))
    const { width, height, frames } = decode(path)
    assert.deepEqual([width, height], [48, 24])
    assert.deepEqual(frames, Buffer.from(sheet.data))
    writeFileSync(join(folder, 'buffer.png'), await sheet.toBuffer('png'))
    assert.deepEqual(readFileSync(join(folder, 'buffer.png')), readFileSync(path))
  })

  test('columns that cannot be', () => {
    for (const columns of [0, -1, 1.5, 9, Number.NaN, '2']) {
      assert.throws(() => video().contactSheet({ columns: columns as number }), {
        code: 'ERR_INVALID_ARGUMENT',
        parameter: 'columns',
      })
    }
    assert.throws(() => video().contactSheet({ rows: 2 } as object), { parameter: 'rows' })
  })
})
