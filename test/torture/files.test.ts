// Checkpoints cut at every 64th, with bits flipped and with every header that the format forbids: refused with a code, or
// loaded and as good as before; never a crash and never a hang.
import assert from 'node:assert/strict'
import { copyFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { type GenerateOptions, TextToVideoPipeline, TorchreelError } from 'torchreel'
import { folder, unet } from '../support/changed_checkpoint.js'
import { repository, tinyCheckpoint, wanCheckpoint } from '../support/fixtures.js'
import { malformedHeaders, withHeader } from '../support/malformed_headers.js'
import { tally } from '../support/tally.js'

/** A checkpoint that is broken in many ways. */
class Victim {
  readonly name: string
  readonly #original: string
  readonly #copy: string
  readonly #options: GenerateOptions
  #golden: Uint8Array | undefined

  /** @param original the whole checkpoint's folder */
  constructor(name: string, original: string, options: GenerateOptions) {
    this.name = name
    this.#original = original
    this.#options = options
    this.#copy = path.join(folder, name)
    cpSync(original, this.#copy, { recursive: true })
  }

  read(file: string): Buffer {
    return readFileSync(path.join(this.#original, file))
  }

  async make(): Promise<Uint8Array> {
    await using pipeline = await TextToVideoPipeline.fromPretrained(this.#copy)
    return (await pipeline.generate('a big red circle', this.#options)).data
  }

  /** The code that loading ends with, or 'loaded' where the frames are as before. */
  async outcome(file: string, content: Buffer): Promise<string> {
    this.#golden ??= await this.make()
    writeFileSync(path.join(this.#copy, file), content)
    try {
      assert.deepEqual(await this.make(), this.#golden)
      return 'loaded'
    } catch (error) {
      assert.ok(error instanceof TorchreelError, String(error))
      assert.ok(error.message.length < 2000)
      return error.code
    } finally {
      copyFileSync(path.join(this.#original, file), path.join(this.#copy, file))
    }
  }

  /** The whole checkpoint still gives the frames that it gave first. */
  async isWhole(): Promise<void> {
    assert.deepEqual(await this.make(), this.#golden)
  }
}

const options = { steps: 1, frames: 1, width: 16, height: 16, seed: 1 }
const shapes = new Victim('shapes', `${repository}models/shapes`, options) // its tokenizer is small
const wan = new Victim('wan', wanCheckpoint, options)

/** The same numbers each time. */
function randomNumbers(): (below: number) => number {
  let state = 12345
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function flipped(content: Buffer, at: number, bit: number): Buffer {
  const copy = Buffer.from(content)
  copy[at] = (copy[at] as number) ^ (1 << bit)
  return copy
}

const transformer = 'transformer/diffusion_pytorch_model.safetensors'

/** The files of a checkpoint, by its denoiser's weights and the names of the tokenizer's files. */
function filesWith(denoiser: string, ...tokenizer: string[]): string[] {
  const networks = ['text_encoder', path.dirname(denoiser), 'vae']
  return [
    ...['model_index.json', 'scheduler/scheduler_config.json', denoiser],
    ...networks.map((network) => `${network}/config.json`),
    ...tokenizer.map((name) => `tokenizer/${name}`),
    ...['vae/diffusion_pytorch_model.safetensors', 'text_encoder/model.safetensors'],
  ]
}

for (const [victim, files] of [
  [shapes, filesWith(unet, 'vocab.json', 'merges.txt', 'tokenizer_config.json', 'special_tokens_map.json')],
  [wan, filesWith(transformer, 'tokenizer.json')],
] as const) {
  for (const name of files) {
    test(`[cut-files] ${victim.name}: ${name} cut at every 64th`, async (t) => {
      const whole = victim.read(name)
      for (let part = 0; part < 64; part++) {
        const length = Math.floor((whole.length * part) / 64)
        assert.equal(
          await victim.outcome(name, whole.subarray(0, length)),
          'ERR_MODEL_CORRUPT',
          `${length} bytes`,
        )
      }
      tally(t, 'bad inputs tried', 64)
    })
  }
}

test('[cut-files] a LoRA cut at every 64th', async (t) => {
  const whole = readFileSync(`${repository}test/fixtures/adapters/peft.safetensors`)
  const cut = path.join(folder, 'lora.safetensors')
  await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
  const before = await pipeline.generate('a panda', options)
  for (let part = 0; part < 64; part++) {
    writeFileSync(cut, whole.subarray(0, Math.floor((whole.length * part) / 64)))
    await assert.rejects(pipeline.loadLora(cut), { code: 'ERR_MODEL_CORRUPT' }, `${part}`)
  }
  assert.deepEqual((await pipeline.generate('a panda', options)).data, before.data)
  tally(t, 'bad inputs tried', 64)
})

test('[header-length, header-json, header-offsets, header-shapes, header-names, header-integers] every header that the format forbids', async (t) => {
  for (const [name, header, payload] of malformedHeaders) {
    assert.equal(await shapes.outcome(unet, withHeader(header, payload)), 'ERR_MODEL_CORRUPT', name)
  }
  for (const length of [
    0n,
    1n,
    100_000_001n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ]) {
    const code = await shapes.outcome(unet, withHeader(Buffer.from('{}'), 4, length))
    assert.equal(code, 'ERR_MODEL_CORRUPT', `a header of ${length} bytes`)
  }
  tally(t, 'bad inputs tried', malformedHeaders.length + 8)
})

for (const [victim, file] of [
  [shapes, unet],
  [wan, transformer],
  [wan, 'text_encoder/model.safetensors'],
] as const) {
  test(`[flipped-bits] ${victim.name}: 1000 flips of a bit in the header of ${file}`, async (t) => {
    const whole = victim.read(file)
    const headerLength = Number(whole.readBigUInt64LE(0))
    const next = randomNumbers()
    const seen = new Map<string, number>()
    for (let flip = 0; flip < 1000; flip++) {
      const code = await victim.outcome(file, flipped(whole, next(8 + headerLength), next(8)))
      seen.set(code, (seen.get(code) ?? 0) + 1)
    }
    // A name with another letter is a tensor that is missing and one too many; a length near 2^32 and more is a pickle's.
    const codes = ['loaded', 'ERR_MODEL_CORRUPT', 'ERR_MODEL_INCOMPATIBLE', 'ERR_MODEL_UNTRUSTED']
    assert.deepEqual(
      [...seen.keys()].filter((code) => !codes.includes(code)),
      [],
    )
    assert.ok((seen.get('ERR_MODEL_CORRUPT') ?? 0) > 300, [...seen].join())
    tally(t, 'bad inputs tried', 1000)
  })
}

test('[cut-files, flipped-bits] the whole models still load', async () => {
  await shapes.isWhole()
  await wan.isWhole()
})
