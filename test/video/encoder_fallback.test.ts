// An ffmpeg without libx264: mp4 is written by the H.264 encoder that it has, and the video says so.
import assert from 'node:assert/strict'
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkSave, findFfmpeg, generate, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'
import { decode, difference, emptyFolders, real, video } from '../support/video.js'

const folders = emptyFolders()

/**
 * The real ffmpeg under other names of encoders: it lists `encoders` in place of libx264. It encodes with libx264 where one
 * of `working` is asked for, and writes a line to `trials` where it only tries one; the others fail, as they do on a machine
 * without their hardware.
 */
function withEncoders(
  folder: string,
  encoders: readonly string[],
  working: readonly string[] = ['libopenh264', 'h264_qsv'],
): string {
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
const asked = args[args.indexOf('-c:v') + 1]
if (args.includes('-c:v') && !${JSON.stringify(working)}.includes(asked)) {
  console.error('Cannot load ' + asked + '\\nand more')
  process.exit(1)
}
if (args.includes('null'))
  require('node:fs').appendFileSync(${JSON.stringify(join(folder, 'trials'))}, asked + '\\n')
for (const own of ['-rc_mode', '-rc', '-cq', '-global_quality'])
  if (args.includes(own)) args.splice(args.indexOf(own), 2)
if (args.includes('-c:v')) args[args.indexOf('-c:v') + 1] = 'libx264'
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
    message: new RegExp(
      `no encoder libx264.*\\n${ffmpeg} lists h264_nvenc, but it does not encode on this machine: Cannot load h264_nvenc$`,
      's',
    ),
  })
  assert.deepEqual(readdirSync(folder), [])
})

test('hardware that answers is used, NVIDIA’s first; software comes before it', async () => {
  const all = ['h264_nvenc', 'h264_qsv', 'libopenh264']
  for (const [listed, working, expected] of [
    [all, all, 'libopenh264'],
    [['h264_vaapi', 'h264_qsv', 'h264_nvenc'], all, 'h264_nvenc'],
    [['h264_nvenc', 'h264_qsv'], ['h264_qsv'], 'h264_qsv'],
  ] as const) {
    const { folder, tools } = folders()
    const ffmpeg = withEncoders(tools, listed, working)
    const made = video(32, 32, 4, 8)
    const file = join(folder, 'a.mp4')
    await made.save(file, { ffmpeg })
    assert.deepEqual(made.warnings, [
      `ffmpeg ${(await findFfmpeg(real)).version} (${ffmpeg}) has no libx264: encoded with ${expected}`,
    ])
    assert.ok(difference(decode(file).frames, made.data) < 12)
  }
})

test('an encoder that needs frames in a GPU’s memory is no fallback', async () => {
  const { folder, tools } = folders()
  const ffmpeg = withEncoders(tools, ['h264_vaapi'], ['h264_vaapi'])
  await assert.rejects(video(32, 32, 2, 8).save(join(folder, 'a.mp4'), { ffmpeg }), {
    code: 'ERR_ENCODER_NOT_FOUND',
    message: /it has no encoder libx264\n.*npx torchreel setup/s,
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
