import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { beforeEach, describe, test } from 'node:test'
import { checkSave, exportToVideo, Video, type VideoFacts } from 'torchreel'
import { GifComment } from '#dist/video/write/gif_comment.js'
import { pattern, standIn } from '../support/stand_in.js'
import { decode, emptyFolders, real, video } from '../support/video.js'

const newFolders = emptyFolders()
let folder = ''
let tools = ''
beforeEach(() => {
  ;({ folder, tools } = newFolders())
})

const recipe = {
  prompt: 'a "panda"; #1 = best\\\nin the rain, é 🎬 \ud800 \0',
  negativePrompt: '',
  seed: 7,
  steps: 25,
  guidanceScale: [9, 7.5],
  scheduler: 'DDIMScheduler',
  settings: { frames: 3, width: 16, height: 16, schedulerConfig: { steps_offset: 1 } },
  model: 'text-to-video',
  dtype: 'float32',
  torchreel: '0.1.0',
}
const rest = {
  libtorch: '2.13.0',
  device: 'cpu',
  timings: { unet: 1.5 },
  warnings: ['cut'],
}

function made(facts: VideoFacts = { ...recipe, ...rest }, frameCount = 3): Video {
  const latents = { data: new Float32Array(4), shape: [1, 4, 1, 1, 1] }
  return new Video({ width: 16, height: 16, fps: 8, data: pattern(16, 16, frameCount), latents, ...facts })
}

/** The comment in an mp4 or webm, as ffmpeg reads it. */
function tag(path: string): string | undefined {
  const { stdout } = spawnSync(real, ['-v', 'error', '-i', path, '-f', 'ffmetadata', 'pipe:1'])
  const escaped = /^comment=((?:\\[\s\S]|[^\\\n])*)$/im.exec(stdout.toString())?.[1]
  return escaped?.replace(/\\([\s\S])/g, '$1')
}

/** The comment extension of a GIF (GIF89a, 24). */
function gifComment(path: string): string | undefined {
  const gif = readFileSync(path)
  const start = gif.indexOf(Buffer.from([0x21, 0xfe]))
  if (start < 0) return undefined
  const blocks: Buffer[] = []
  for (let at = start + 2; gif[at] !== 0; at += (gif[at] as number) + 1) {
    blocks.push(gif.subarray(at + 1, at + 1 + (gif[at] as number)))
  }
  return Buffer.concat(blocks).toString('ascii')
}

/** The texts of a PNG's iTXt chunks, by keyword. */
function pngTexts(path: string): Record<string, string> {
  const png = readFileSync(path)
  const texts: Record<string, string> = {}
  for (let at = 8; at < png.length; at += png.readUInt32BE(at) + 12) {
    if (png.toString('latin1', at + 4, at + 8) !== 'iTXt') continue
    const data = png.subarray(at + 8, at + 8 + png.readUInt32BE(at))
    const [keyword, , , , ...text] = data.toString('utf8').split('\0')
    texts[keyword as string] = text.slice(-1).join()
  }
  return texts
}

const readers: Record<string, (path: string) => string | undefined> = {
  'a.mp4': tag,
  'a.webm': tag,
  'a.gif': gifComment,
  'a.apng': (path) => pngTexts(path).Comment,
  '%d.png': (path) => pngTexts(path.replace('%d', '3')).Comment,
}

describe('the comment says how the video was made', () => {
  for (const [name, read] of Object.entries(readers)) {
    test(name, async () => {
      const path = await made().save(join(folder, name))
      assert.deepEqual(JSON.parse(read(path) as string), recipe)
      assert.equal(decode(path).frames.length, made().data.length)
      if (name === '%d.png') return
      writeFileSync(join(folder, `stream-${name}`), await made().toBuffer(name.slice(2) as 'mp4'))
      assert.deepEqual(JSON.parse(read(join(folder, `stream-${name}`)) as string), recipe)
      assert.equal(decode(join(folder, `stream-${name}`)).frames.length, made().data.length)
    })

    test(`${name}: not if metadata is false, and not if nothing is known`, async () => {
      const without = await made().save(join(folder, name), { metadata: false })
      assert.equal(read(without), undefined)
      assert.ok(!readFileSync(without.replace('%d', '1')).includes('panda'))
      const unknown = await made(rest).save(join(folder, `x${name}`))
      assert.equal(read(unknown), undefined)
    })
  }

  test('webp and rgb have none', async () => {
    for (const name of ['a.webp', 'a.rgb']) {
      assert.ok(!readFileSync(await made().save(join(folder, name))).includes('panda'))
    }
    assert.deepEqual(readFileSync(join(folder, 'a.rgb')), Buffer.from(made().data))
    assert.deepEqual(await made().toBuffer('rgb24'), Buffer.from(made().data))
  })

  test('a GIF has it after its header, with and without a table of colours, however it is cut', async () => {
    const comment = Buffer.from('!\xfe\x08{"a":1} \0', 'latin1')
    for (const [flags, table] of [
      [0x70, 0],
      [0xf1, 12],
    ] as const) {
      const header = Buffer.alloc(13 + table, 7)
      header[10] = flags
      const rest = Buffer.from(', image;')
      for (const size of [1, 5, 100]) {
        const gif = new GifComment('{"a":1} ')
        const bytes = Buffer.concat([header, rest])
        for (let at = 0; at < bytes.length; at += size) gif.write(bytes.subarray(at, at + size))
        gif.end()
        assert.deepEqual(await buffer(gif), Buffer.concat([header, comment, rest]))
      }
    }
  })

  test('exportToVideo and a contact sheet pass it on', async () => {
    const path = await exportToVideo(made(), join(folder, 'a.apng'))
    assert.deepEqual(JSON.parse(pngTexts(path).Comment as string), recipe)
    const sheet = await made().contactSheet().save(join(folder, 'sheet.png'))
    assert.deepEqual(JSON.parse(pngTexts(sheet).Comment as string), recipe)
  })

  test('a prompt too long for a comment: ERR_LIMIT_EXCEEDED, and metadata: false saves it', async () => {
    const long = made({ prompt: 'x'.repeat(200_000) })
    await assert.rejects(long.save(join(folder, 'a.mp4')), {
      code: 'ERR_LIMIT_EXCEEDED',
      parameter: 'metadata',
    })
    assert.deepEqual(readdirSync(folder), [])
    await long.save(join(folder, 'a.mp4'), { metadata: false })
  })
})

describe('sidecar', () => {
  const expected = { width: 16, height: 16, frameCount: 3, fps: 8, ...recipe, ...rest }
  const json = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8'))

  test('NAME.json beside the file, frames.json in the folder of a sequence', async () => {
    mkdirSync(join(folder, 'sequence'))
    for (const [name, sidecar] of [
      ['a.b.mp4', 'a.b.json'],
      ['b.rgb', 'b.json'],
      ['sequence/x%03d.png', 'sequence/frames.json'],
      ['new/', 'new/frames.json'],
    ] as const) {
      await made().save(join(folder, name), { sidecar: true })
      assert.deepEqual(json(sidecar), expected)
    }
    await made(undefined, 1).save(join(folder, 'one.png'), { sidecar: true })
    assert.deepEqual(json('one.json'), { ...expected, frameCount: 1 })
    assert.deepEqual(JSON.parse(JSON.stringify(made())), expected)
    assert.deepEqual(Object.keys(json('b.json')).slice(0, 6), [
      'width',
      'height',
      'frameCount',
      'fps',
      'prompt',
      'negativePrompt',
    ])
  })

  test('both or neither', async () => {
    writeFileSync(join(folder, 'a.json'), 'old')
    const existing = { code: 'ERR_OUTPUT_EXISTS', path: join(folder, 'a.json') }
    await assert.rejects(made().save(join(folder, 'a.mp4'), { sidecar: true }), existing)
    await assert.rejects(checkSave(join(folder, 'a.mp4'), {}, { sidecar: true }), existing)
    const ffmpeg = standIn(tools, real, 'process.exit(1)')
    await assert.rejects(made().save(join(folder, 'a.mp4'), { sidecar: true, overwrite: true, ffmpeg }), {
      code: 'ERR_ENCODER_FAILED',
    })
    assert.deepEqual(readdirSync(folder), ['a.json'])
    assert.equal(readFileSync(join(folder, 'a.json'), 'latin1'), 'old')
    await made().save(join(folder, 'a.mp4'), { sidecar: true, overwrite: true })
    assert.equal(json('a.json').seed, 7)

    // Another program takes the video's name while ffmpeg runs: the sidecar, which was named first, is removed again.
    const target = join(folder, 'b.mp4')
    const rival = standIn(tools, real, `fs.writeFileSync(${JSON.stringify(target)}, 'theirs'); pass()`)
    await assert.rejects(made().save(target, { sidecar: true, ffmpeg: rival }), { code: 'ERR_OUTPUT_EXISTS' })
    assert.equal(existsSync(join(folder, 'b.json')), false)
    assert.equal(readFileSync(target, 'latin1'), 'theirs')
  })

  test('with metadata: false it is still written', async () => {
    await made().save(join(folder, 'a.mp4'), { sidecar: true, metadata: false })
    assert.deepEqual(json('a.json'), expected)
    await video().save(join(folder, 'b.mp4'), { sidecar: true })
    assert.deepEqual(json('b.json'), { width: 64, height: 48, frameCount: 8, fps: 8, warnings: [] })
  })
})
