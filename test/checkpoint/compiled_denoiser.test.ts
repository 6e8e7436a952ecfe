// A UNet that models/export.py compiled: the video is that of the graph; whatever it was not compiled for is refused.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { buffer } from 'node:stream/consumers'
import { after, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { type GenerateOptions, type PipelineOptions, TextToVideoPipeline, type Video } from 'torchreel'
import { openPromise } from 'yauzl'
import { compiledSize, makeCompiledModel, python } from '../support/compiled_model.js'
import { relativeError, repository, wanCheckpoint } from '../support/fixtures.js'
import { writeSafetensors } from '../support/safetensors_file.js'
import { zipOf } from '../support/zip.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-compiled-'))
after(() => rmSync(folder, { recursive: true }))
const { model, compiledDenoiser } = makeCompiledModel(folder)
cpSync(compiledDenoiser, path.join(model, 'unet', 'unet.pt2')) // a model's own, which nobody named

// What is written while a package is loaded would be left here.
const temporary = path.join(folder, 'temporary')
mkdirSync(temporary)
process.env.TMPDIR = temporary

const load = (options: PipelineOptions = {}) =>
  TextToVideoPipeline.fromPretrained(model, { device: 'cpu', trustGraph: true, compiledDenoiser, ...options })
const call = { ...compiledSize, steps: 3, seed: 4, returnLatents: true } satisfies GenerateOptions

const graph = await load({ compiledDenoiser: undefined })
const pipeline = await load()
after(() => Promise.all([graph.dispose(), pipeline.dispose()]))

function assertSame(video: Video, wanted: Video): void {
  assert.ok(relativeError(video.latents?.data ?? [], wanted.latents?.data ?? [1]) < 1e-5)
  assert.ok(video.data.every((value, index) => Math.abs(value - (wanted.data[index] as number)) <= 1))
}

test('the video is the graph’s, and says that the package made it', async () => {
  const [video, wanted] = [await pipeline.generate('a cat', call), await graph.generate('a cat', call)]
  assertSame(video, wanted)
  assert.equal(video.compiledDenoiser, 'unet.pt2')
  assert.match(JSON.stringify(video), /"compiledDenoiser":"unet.pt2"/)
  assert.equal(wanted.compiledDenoiser, undefined)
  assert.doesNotMatch(JSON.stringify(wanted), /compiledDenoiser/)
  assert.deepEqual(readdirSync(temporary), [])
})

test('windows of its frames make a longer video', async () => {
  const longer = { ...call, frames: 7, window: { frames: 4, overlap: 2 } }
  assertSame(await pipeline.generate('a cat', longer), await graph.generate('a cat', longer))
})

test('offload: weights that move between calls; the same to the bit', async () => {
  await using offloaded = await load({ offload: 'model' })
  const wanted = await pipeline.generate('a dog', call)
  for (let time = 0; time < 2; time++)
    assert.deepEqual((await offloaded.generate('a dog', call)).latents, wanted.latents)
})

test('a LoRA works from the next call on, and is out again to the bit', async () => {
  const lora = path.join(folder, 'lora.safetensors')
  const layer = 'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q'
  const numbers = (sign: number) =>
    Buffer.from(Float32Array.from({ length: 32 }, (_, index) => sign * Math.sin(index)).buffer)
  writeSafetensors(
    lora,
    new Map([
      [`${layer}.lora_A.weight`, { dtype: 'F32', shape: [2, 16], bytes: numbers(1) }],
      [`${layer}.lora_B.weight`, { dtype: 'F32', shape: [16, 2], bytes: numbers(-1) }],
    ]),
  )
  const without = await pipeline.generate('a cat', call)
  for (const each of [pipeline, graph]) await each.loadLora(lora)
  const adapted = await pipeline.generate('a cat', call)
  assertSame(adapted, await graph.generate('a cat', call))
  assert.ok(relativeError(adapted.latents?.data ?? [], without.latents?.data ?? []) > 1e-3)
  for (const each of [pipeline, graph]) await each.unloadLora()
  assert.deepEqual((await pipeline.generate('a cat', call)).latents, without.latents)
})

test('two pipelines at once, each with its own', async () => {
  await using other = await load()
  const wanted = await pipeline.generate('a cat', call)
  const videos = await Promise.all([pipeline, other].map((each) => each.generate('a cat', call)))
  for (const video of videos) assert.deepEqual(video.latents, wanted.latents)
})

test('an aborted call ends within a step, and the next is as ever', async () => {
  const wanted = await pipeline.generate('a cat', call)
  const controller = new AbortController()
  let last = 0
  const onProgress = ({ stage, step }: { stage: string; step: number }) => {
    if (stage !== 'denoise') return
    last = step
    if (step === 1) controller.abort(new Error('enough'))
  }
  const options = { ...call, steps: 200, signal: controller.signal, onProgress }
  await assert.rejects(pipeline.generate('a cat', options), /enough/)
  assert.ok(last < 200)
  assert.deepEqual((await pipeline.generate('a cat', call)).latents, wanted.latents)
})

test('the command line', async () => {
  const file = path.join(folder, 'frame_%04d.png')
  const size = ['--frames', '4', '--width', '16', '--height', '16', '--steps', '1', '--json', '--quiet']
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...[`${repository}dist/cli/main.js`, 'a cat', '-o', file, '--model', model, '--trust-graph'],
    ...['--device', 'cpu', '--compiled-denoiser', compiledDenoiser, ...size],
  ])
  assert.equal(JSON.parse(stdout).compiledDenoiser, 'unet.pt2')
})

describe('what it was not compiled for is refused', () => {
  const calls: [parameter: string, options: GenerateOptions][] = [
    ['frames', { frames: 5 }],
    ['width', { width: 24 }],
    ['height', { height: 24 }],
    ['window', { window: 2 }],
    ['guidanceScale', { guidanceScale: 1 }],
    ['guidanceInterval', { guidanceInterval: [0, 0.5] }],
    ['freeU', { freeU: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 } }],
    ['featureCache', { featureCache: 2 }],
  ]
  for (const [parameter, options] of calls) {
    test(`${JSON.stringify(options)}`, () =>
      assert.rejects(pipeline.generate('a cat', { ...call, ...options }), {
        ...{ code: 'ERR_INVALID_ARGUMENT', parameter },
        message: /with compiledDenoiser unet\.pt2/,
      }))
  }

  test('several prompts, and embeddings of other tokens', async () => {
    await assert.rejects(pipeline.generate(['a', 'b'], call), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'prompt',
    })
    const promptEmbeds = { data: new Float32Array(8 * 32), shape: [1, 8, 32] }
    const embedded = { ...call, promptEmbeds, negativePromptEmbeds: promptEmbeds }
    await assert.rejects(pipeline.generate(undefined, embedded), { parameter: 'promptEmbeds' })
  })

  test('before the video is read that the call starts from', async () => {
    const video = path.join(folder, 'absent.mp4')
    for (const [parameter, options] of calls)
      await assert.rejects(pipeline.generate('a cat', { ...call, video, ...options }), { parameter })
  })

  test('a video of another size', async () => {
    const frame = { width: 24, height: 16, data: new Uint8Array(24 * 16 * 3) }
    const own = { ...call, frames: undefined, width: undefined, height: undefined }
    const four = pipeline.generate('a cat', { ...own, video: [frame, frame, frame, frame] })
    await assert.rejects(four, { parameter: 'width', expected: /16/ })
    const one = pipeline.generate('a cat', { ...own, video: [frame], width: 16 })
    await assert.rejects(one, { parameter: 'frames', expected: /4/ })
  })

  test('before the weights are read for verify', async () => {
    await assert.rejects(load({ dtype: 'bfloat16', verify: true }), { code: 'ERR_MODEL_INCOMPATIBLE' })
  })

  test('offload sequential', () =>
    assert.rejects(load({ offload: 'sequential' }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'compiledDenoiser',
    }))

  test('another dtype', () =>
    assert.rejects(load({ dtype: 'bfloat16' }), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /compiled for dtype float32, not bfloat16/,
    }))

  test('a model of another family', () =>
    assert.rejects(TextToVideoPipeline.fromPretrained(wanCheckpoint, { compiledDenoiser }), {
      code: 'ERR_INVALID_ARGUMENT',
      parameter: 'compiledDenoiser',
      message: /only the UNet of ModelScope models/,
    }))

  test('another model', () =>
    assert.rejects(TextToVideoPipeline.fromPretrained('shapes', { device: 'cpu', compiledDenoiser }), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /compiled for the graph/,
    }))
})

describe('packages', async () => {
  const name = 'archive/data/aotinductor/model/step.wrapper'
  const { library, about } = await contentsOf(compiledDenoiser)
  let count = 0
  /** A package of these files, in place of the names in them. */
  const packed = (files: Record<string, Buffer | string>) => {
    const file = path.join(folder, `${count++}.pt2`)
    writeFileSync(file, zipOf(files))
    return file
  }
  const changed = (change: object, code: Buffer | string = library) =>
    packed({
      [`${name}.so`]: code,
      [`${name}_metadata.json`]: JSON.stringify({ torchreel: JSON.stringify({ ...about, ...change }) }),
    })
  const refused = (file: string, code: string, message: RegExp) =>
    assert.rejects(load({ compiledDenoiser: file }), { code, message, parameter: 'compiledDenoiser' })

  for (const [change, message] of [
    [{ torch: '2.99.0' }, /compiled for torch 2\.99\.0, not 2\./],
    [{ device: 'cuda' }, /compiled for device cuda, not cpu/],
    [{ graph: 'another' }, /compiled for the graph another/],
    [{ scale: 8 }, /compiled for a VAE of the scale 8, not 4/],
    [{ instructionSets: ['avx9', 'sse2'] }, /a processor with avx9/],
  ] as const) {
    test(`for ${Object.keys(change)}`, () => refused(changed(change), 'ERR_MODEL_INCOMPATIBLE', message))
  }

  test('that are none', async () => {
    await refused(path.join(folder, 'nothing.pt2'), 'ERR_MODEL_NOT_FOUND', /there is no file/)
    await refused(folder, 'ERR_MODEL_NOT_FOUND', /is a folder, not a file/)
    await refused(path.join(model, 'model_index.json'), 'ERR_MODEL_CORRUPT', /is not a package/)
    await refused(changed({ frames: 0 }), 'ERR_MODEL_CORRUPT', /does not say what it was compiled for/)
    await refused(packed({ [`${name}.so`]: library }), 'ERR_MODEL_CORRUPT', /is not a package/)
  })

  test('of sources, which would take a compiler', () =>
    refused(packed({ [`${name}.cpp`]: 'int main() {}' }), 'ERR_MODEL_CORRUPT', /has 0 libraries/))

  test('that are cut or changed', async () => {
    const content = readFileSync(compiledDenoiser)
    const file = path.join(folder, 'damaged.pt2')
    writeFileSync(file, content.subarray(0, content.length / 2))
    await refused(file, 'ERR_MODEL_CORRUPT', /is not a package/)
    const place = content.indexOf(library.subarray(0, 4096)) + library.length / 2
    content.writeUInt8(content.readUInt8(place) ^ 1, place)
    writeFileSync(file, content)
    await refused(file, 'ERR_MODEL_CORRUPT', /CRC-32/)
  })

  test('whose library is none', async () => {
    await assert.rejects(load({ compiledDenoiser: changed({}, 'no library') }), {
      code: 'ERR_MODEL_CORRUPT',
      message: /the compiled denoiser cannot be loaded/,
    })
    assert.deepEqual(readdirSync(temporary), [])
  })

  test('where no temporary file can be', async () => {
    process.env.TMPDIR = path.join(folder, 'absent')
    try {
      await assert.rejects(load(), { code: 'ERR_OUTPUT_WRITE', message: /TMPDIR/ })
    } finally {
      process.env.TMPDIR = temporary
    }
  })
})

test('what cannot be compiled leaves no file', () => {
  const file = path.join(folder, 'never.pt2')
  assert.throws(
    () => python('models/export.py', model, '--compile', file, '--frames', '0'),
    /frames must be 1 or more/,
  )
  assert.throws(() => python('models/export.py', model, '--compile', file, '--width', '18'), /multiples of 4/)
  for (const [expected, ...parameters] of [
    [/--compile takes a checkpoint folder/, '--check', 'models/graphs', '--compile', file],
    [/--name is not for --compile/, model, '--compile', file, '--name', 'tiny'],
    [/--output is not for --compile/, model, '--compile', file, '--output', folder],
    [/--frames is only for --compile/, model, '--frames', '16'],
    [/--device is only for --compile/, model, '--device', 'cpu'],
    [/--without-guidance is only for --compile/, model, '--without-guidance'],
  ] as [RegExp, ...string[]][])
    assert.throws(() => python('models/export.py', ...parameters), expected)
  assert.ok(!existsSync(file))
})

/** The library of a package, and what it says of itself. */
async function contentsOf(file: string): Promise<{ library: Buffer; about: object }> {
  const zip = await openPromise(file, { autoClose: false })
  const contents: { library?: Buffer; about?: object } = {}
  for await (const entry of zip.eachEntry()) {
    const content = () => zip.openReadStreamPromise(entry).then(buffer)
    if (entry.fileName.endsWith('.so')) contents.library = await content()
    if (entry.fileName.endsWith('.wrapper_metadata.json'))
      contents.about = JSON.parse(JSON.parse(String(await content())).torchreel)
  }
  zip.close()
  return contents as { library: Buffer; about: object }
}
