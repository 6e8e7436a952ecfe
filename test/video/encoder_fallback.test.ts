// An ffmpeg without libx264: mp4 is written by the H.264 encoder that it has, and the video says so.
import assert from 'node:assert/strict'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkSave, generate, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'
import { decode, difference, emptyFolders, real, video } from '../support/video.js'

const folders = emptyFolders()

/**
 * The real ffmpeg under other names of encoders: it lists `encoders` in place of libx264. It encodes with libx264 where
 * libopenh264 or h264_qsv is asked for, and writes a line to `trials` where it only tries the latter. h264_nvenc fails, as
 * it does on a machine without its GPU.
 */
function withEncoders(folder: string, encoders: readonly string[]): string {
  const path = join(folder, 'ffmpeg')
  writeFileSync(
    path,
    `#!${process.execPath}
const { spawnSync } = require('node:child_process')
let args = process.argv.slice(2)
const run = (stdio) => spawnSync(${JSON.stringify(real)}, args, { stdio, encoding: 'utf8' })
if (args.includes('-encoders')) {
  const names = ${JSON.stringify(encoders)}.map((name) => ' V..... ' + name + '  H.264')
  const list = run(['ignore', 'pipe', 'inherit']).stdout.split('\\n')
  process.stdout.write(list.filter((line) => !/libx264|h264_/.test(line)).concat(names, '').join('\\n'))
  process.exit(0)
}
if (args.includes('h264_nvenc')) process.exit(1)
if (args.includes('h264_qsv') && args.includes('null'))
  require('node:fs').appendFileSync(${JSON.stringify(join(folder, 'trials'))}, 'h264_qsv\\n')
for (const name of ['-rc_mode', '-global_quality']) {
  const own = args.indexOf(name)
  if (own >= 0) args.splice(own, 2)
}
args = args.map((word) => (/^(libopenh264|h264_qsv)$/.test(word) ? 'libx264' : word))
process.exit(run('inherit').status)
`,
  )
  chmodSync(path, 0o755)
  return path
}

test('the next best encoder is used: save, output and checkSave', async () => {
  const { folder, tools } = folders()
  const ffmpeg = withEncoders(tools, ['h264_nvenc', 'libopenh264'])
  const made = video(32, 32, 4, 8)
  const file = join(folder, 'a.mp4')
  await checkSave(file, { frameCount: 4 }, { ffmpeg })
  await made.save(file, { ffmpeg })
  assert.match(made.warnings.join('\n'), /has no libx264: encoded with libopenh264$/)
  assert.ok(difference(decode(file).frames, made.data) < 12)

  await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
  const output = join(folder, 'b.mov')
  const recorded = await pipeline.generate('a', {
    ...{ steps: 1, frames: 2, width: 32, height: 32, seed: 1 },
    ...{ output, ffmpeg },
  })
  assert.match(recorded.warnings.join('\n'), /has no libx264: encoded with libopenh264$/)
})

test('what a fallback cannot do is refused before anything is written', async () => {
  const { folder, tools } = folders()
  const ffmpeg = withEncoders(tools, ['libopenh264'])
  for (const options of [
    { crf: 20 },
    { pixelFormat: 'yuv444p' },
    { ffmpegArguments: ['-preset', 'slow'] },
  ] as const) {
    const saved = video(32, 32, 2, 8).save(join(folder, 'a.mp4'), { ...options, ffmpeg })
    await assert.rejects(saved, (error: { code: string; message: string }) => {
      assert.equal(error.code, 'ERR_ENCODER_NOT_FOUND')
      assert.match(error.message, /no encoder libx264/)
      return true
    })
  }
})

test('hardware that is listed but does not answer is passed over', async () => {
  const { folder, tools } = folders()
  const ffmpeg = withEncoders(tools, ['h264_nvenc'])
  await assert.rejects(video(32, 32, 2, 8).save(join(folder, 'a.mp4'), { ffmpeg }), {
    code: 'ERR_ENCODER_NOT_FOUND',
  })
})

test('hardware that answers is tried once, though the file is checked before it is written', async () => {
  const { folder, tools } = folders()
  const made = await generate('a', {
    ...{ model: tinyCheckpoint, steps: 1, frames: 2, width: 32, height: 32, seed: 1 },
    ...{ output: join(folder, 'a.mp4'), ffmpeg: withEncoders(tools, ['h264_qsv']) },
  })
  assert.match(made.warnings.join('\n'), /has no libx264: encoded with h264_qsv$/)
  assert.equal(readFileSync(join(tools, 'trials'), 'utf8'), 'h264_qsv\n')
})

test('generate says it, too, though it checks the file before it loads a model', async () => {
  const { folder, tools } = folders()
  const made = await generate('a', {
    ...{ model: tinyCheckpoint, steps: 1, frames: 2, width: 32, height: 32, seed: 1 },
    ...{ output: join(folder, 'a.mp4'), ffmpeg: withEncoders(tools, ['libopenh264']) },
  })
  assert.match(made.warnings.join('\n'), /has no libx264: encoded with libopenh264$/)
})
