// What lies where under each offload mode. On the CPU bfloat16 stands in for an accelerator: the files are float32, so that
// weights have to be copied before a network can compute, as to a device, and copies can be counted.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { type PipelineMemory, type PipelineOptions, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'
import { readSafetensors } from '../support/safetensors_file.js'

const networks = ['textEncoder', 'denoiser', 'vae'] as const
const options = { steps: 3, frames: 2, seed: 9 }
const open = (more: PipelineOptions) => TextToVideoPipeline.fromPretrained(tinyCheckpoint, more)

/** Bytes of a network's weights in its files, by the beginning of the weights' names. */
function fileBytes(file: string, beginning: RegExp): Map<string, number> {
  const bytes = new Map<string, number>()
  for (const [name, tensor] of readSafetensors(`${tinyCheckpoint}/${file}.safetensors`)) {
    if (tensor.dtype !== 'F32') continue
    const key = beginning.exec(name)?.[0] ?? ''
    bytes.set(key, (bytes.get(key) ?? 0) + tensor.bytes.length)
  }
  return bytes
}

const sum = (bytes: Map<string, number>) => [...bytes.values()].reduce((total, one) => total + one, 0)
const copied = (memory: PipelineMemory) => networks.map((name) => memory[name].copiedBytes)

/** How much of a network's file lies in this process' memory, in kB. */
function inMemory(network: string): number {
  const mappings = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[\da-f]+-[\da-f]+ )/m)
  const ofFile = mappings.filter((mapping) =>
    mapping.split('\n', 1)[0]?.includes(`tiny/checkpoint/${network}/`),
  )
  assert.ok(ofFile.length > 0)
  return ofFile.reduce((total, mapping) => total + Number(/^Rss: *(\d+) kB$/m.exec(mapping)?.[1]), 0)
}

test('the mapped weights that a job is done with leave memory, and come back for the next prompt', async () => {
  await using pipeline = await open({})
  await pipeline.generate('a boat', options)
  for (const network of ['text_encoder', 'unet', 'vae']) assert.equal(inMemory(network), 0)
  await pipeline.encodePrompt('a tree')
  assert.equal(inMemory('text_encoder'), 0)
  const next = await pipeline.generate('a house', options)
  await using other = await open({})
  assert.deepEqual(next.data, (await other.generate('a house', options)).data)
})

test('no mapped weights stay in memory where they were copied', async () => {
  await using pipeline = await open({ dtype: 'bfloat16' })
  for (const network of ['text_encoder', 'unet', 'vae']) assert.equal(inMemory(network), 0)
  await pipeline.generate('a boat', options)
})

describe('offload "none"', () => {
  test('in the file’s dtype on the CPU: everything is mapped and nothing is ever copied', async () => {
    await using pipeline = await open({})
    await pipeline.generate('a boat', options)
    const memory = pipeline.memory()
    assert.equal(memory.device, 'cpu')
    assert.equal(memory.dtype, 'float32')
    assert.equal(memory.allocator, undefined)
    for (const [name, file] of [
      ['textEncoder', 'text_encoder/model'],
      ['denoiser', 'unet/diffusion_pytorch_model'],
      ['vae', 'vae/diffusion_pytorch_model'],
    ] as const) {
      const mappedBytes = sum(fileBytes(file, /^/))
      const bytes = { mappedBytes, copiedBytes: 0, peakCopiedBytes: 0, pinnedBytes: 0 }
      assert.deepEqual(memory[name], { ...bytes, resident: true })
    }
  })

  test("in half the width: half the bytes are copied, at once and for good, the text encoder's while it computes", async () => {
    await using pipeline = await open({ dtype: 'bfloat16' })
    const before = pipeline.memory()
    for (const name of ['denoiser', 'vae'] as const) {
      const { mappedBytes, copiedBytes, resident } = before[name]
      assert.ok(mappedBytes > 0)
      assert.equal(copiedBytes, mappedBytes / 2)
      assert.equal(resident, true)
    }
    const { mappedBytes, ...atRest } = before.textEncoder
    assert.deepEqual(atRest, { copiedBytes: 0, peakCopiedBytes: 0, pinnedBytes: 0, resident: false })
    await pipeline.generate('a boat', options)
    const textEncoder = { ...before.textEncoder, peakCopiedBytes: mappedBytes / 2 }
    assert.deepEqual(pipeline.memory(), { ...before, textEncoder })
  })
})

test('offload "model": nothing is copied at rest, and each network was copied whole', async () => {
  await using pipeline = await open({ dtype: 'bfloat16', offload: 'model' })
  assert.deepEqual(copied(pipeline.memory()), [0, 0, 0])
  for (let run = 0; run < 2; run++) {
    await pipeline.generate('a boat', options)
    const memory = pipeline.memory()
    assert.deepEqual(copied(memory), [0, 0, 0])
    for (const name of networks) {
      assert.equal(memory[name].peakCopiedBytes, memory[name].mappedBytes / 2)
      assert.equal(memory[name].resident, false)
    }
  }
})

test('offload "sequential": of the denoiser at most two neighbouring blocks are copied at a time', async () => {
  await using pipeline = await open({ dtype: 'bfloat16', offload: 'sequential' })
  await pipeline.generate('a boat', options)
  const memory = pipeline.memory()
  assert.deepEqual(copied(memory), [0, 0, 0])

  const blocks = fileBytes('unet/diffusion_pytorch_model', /^(down_blocks\.\d+|mid_block|up_blocks\.\d+)/)
  const inOrder = [...blocks.keys()].filter((name) => name !== '')
  const rank = (name: string) => ['d', 'm', 'u'].indexOf(name[0] as string)
  inOrder.sort((one, other) => rank(one) - rank(other) || one.localeCompare(other))
  const halves = inOrder.map((name) => (blocks.get(name) as number) / 2)
  const two = Math.max(...halves.slice(1).map((bytes, index) => bytes + (halves[index] as number)))
  const { peakCopiedBytes, mappedBytes } = memory.denoiser
  assert.ok(peakCopiedBytes <= two, `${peakCopiedBytes} are more than the ${two} of two blocks`)
  assert.ok(
    peakCopiedBytes > two / 2 && peakCopiedBytes < mappedBytes / 2,
    'more than one block, less than all',
  )
})

test('the frames are equal in all modes, also when a job was aborted between', async () => {
  const call = { ...options, freeU: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 }, window: 2, frames: 3 }
  for (const dtype of ['bfloat16', 'float32'] as const) {
    const videos: Uint8Array[] = []
    for (const offload of ['none', 'model', 'sequential'] as const) {
      await using pipeline = await open({ dtype, offload, threads: 2 })
      const controller = new AbortController()
      const aborted = pipeline.generate('a boat', {
        ...call,
        signal: controller.signal,
        onProgress: ({ stage, step }) => {
          if (stage === 'denoise' && step === 1) controller.abort(new Error('enough'))
        },
      })
      await assert.rejects(aborted, /enough/)
      if (offload !== 'none') assert.deepEqual(copied(pipeline.memory()), [0, 0, 0])
      videos.push((await pipeline.generate('a boat', call)).data)
    }
    assert.deepEqual(videos[1], videos[0])
    assert.deepEqual(videos[2], videos[0])
  }
})

test('memory may be asked while a job runs, and not after dispose', async () => {
  const pipeline = await open({ dtype: 'bfloat16', offload: 'sequential' })
  let asked = 0
  await pipeline.generate('a boat', {
    ...options,
    onProgress: () => {
      asked++
      const memory = pipeline.memory()
      for (const name of networks) assert.ok(memory[name].copiedBytes <= memory[name].peakCopiedBytes)
    },
  })
  assert.ok(asked > 3)
  await pipeline.dispose()
  assert.throws(() => pipeline.memory(), { code: 'ERR_DISPOSED' })
})
