// A LoRA for Wan, in each of the spellings that are in use, makes the video of a checkpoint whose weights have the changes
// already; and taken out again, to the bit, that of the checkpoint.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { relativeError, wanCheckpoint } from '../support/fixtures.js'
import { type FileTensors, float32, readSafetensors, writeSafetensors } from '../support/safetensors_file.js'

const weights = 'transformer/diffusion_pytorch_model.safetensors'
const rank = 2
const alpha = 3

/** A layer's name in the checkpoint, in Wan's own layout, and in Kohya's. */
const layers = [
  ['blocks.0.attn1.to_q', 'blocks.0.self_attn.q', 'blocks_0_self_attn_q'],
  ['blocks.1.attn2.to_out.0', 'blocks.1.cross_attn.o', 'blocks_1_cross_attn_o'],
  ['blocks.0.attn2.to_k', 'blocks.0.cross_attn.k', 'blocks_0_cross_attn_k'],
  ['blocks.1.ffn.net.0.proj', 'blocks.1.ffn.0', 'blocks_1_ffn_0'],
  ['blocks.0.ffn.net.2', 'blocks.0.ffn.2', 'blocks_0_ffn_2'],
  ['condition_embedder.time_embedder.linear_1', 'time_embedding.0', 'time_embedding_0'],
  ['condition_embedder.time_proj', 'time_projection.1', 'time_projection_1'],
  ['condition_embedder.text_embedder.linear_2', 'text_embedding.2', 'text_embedding_2'],
  ['proj_out', 'head.head', 'head_head'],
] as const

const scratch = mkdtempSync(path.join(tmpdir(), 'torchreel-wan-lora-'))
const pipeline = await TextToVideoPipeline.fromPretrained(wanCheckpoint)
after(async () => {
  await pipeline.dispose()
  rmSync(scratch, { recursive: true })
})

const call = { steps: 2, frames: 5, width: 32, height: 32, seed: 9, returnLatents: true }
const own = await latentsOf(pipeline)

async function latentsOf(from: TextToVideoPipeline): Promise<Float32Array> {
  return (await from.generate('a boat', call)).latents?.data as Float32Array
}

/** Numbers that look random. */
function noise(count: number, seed: number): Float32Array {
  return Float32Array.from(
    { length: count },
    (_, index) => Math.sin((index + 1) * (seed + 1) * 12.9898) * 0.2,
  )
}

function tensor(shape: number[], values: Float32Array) {
  return { dtype: 'F32', shape, bytes: Buffer.from(values.buffer) }
}

interface Change {
  readonly up: Float32Array
  readonly down: Float32Array
  readonly bias: Float32Array
}

const transformer = readSafetensors(path.join(wanCheckpoint, weights))
const sizes = layers.map(([name]) => transformer.get(`${name}.weight`)?.shape as [number, number])
const changes = sizes.map(
  ([out, inner], index): Change => ({
    up: noise(out * rank, 3 * index),
    down: noise(rank * inner, 3 * index + 1),
    bias: noise(out, 3 * index + 2),
  }),
)

/** The checkpoint with the changes in its weights, each times `scale`. */
function merged(name: string, scale: number, biases: boolean, alphaOverRank: number): string {
  const folder = path.join(scratch, name)
  cpSync(wanCheckpoint, folder, { recursive: true })
  const tensors = readSafetensors(path.join(folder, weights))
  for (const [index, [layer]] of layers.entries()) {
    const { up, down, bias } = changes[index] as Change
    const [out, inner] = sizes[index] as [number, number]
    const weight = float32(tensors, `${layer}.weight`)
    for (let row = 0; row < out; row++) {
      for (let column = 0; column < inner; column++) {
        let sum = 0
        for (let r = 0; r < rank; r++)
          sum += (up[row * rank + r] as number) * (down[r * inner + column] as number)
        weight[row * inner + column] = (weight[row * inner + column] as number) + scale * alphaOverRank * sum
      }
    }
    tensors.set(`${layer}.weight`, tensor([out, inner], weight))
    if (!biases) continue
    const changedBias = float32(tensors, `${layer}.bias`).map(
      (value, at) => value + scale * (bias[at] as number),
    )
    tensors.set(`${layer}.bias`, tensor([out], changedBias))
  }
  writeSafetensors(path.join(folder, weights), tensors)
  return folder
}

function loraFile(name: string, add: (tensors: FileTensors, index: number) => void): string {
  const tensors: FileTensors = new Map()
  for (const index of layers.keys()) add(tensors, index)
  const file = path.join(scratch, `${name}.safetensors`)
  writeSafetensors(file, tensors)
  return file
}

function halves(index: number) {
  const [out, inner] = sizes[index] as [number, number]
  const { up, down, bias } = changes[index] as Change
  return {
    up: tensor([out, rank], up),
    down: tensor([rank, inner], down),
    bias: tensor([out], bias),
    alpha: tensor([], Float32Array.of(alpha)),
  }
}

const spellings = {
  diffusers: loraFile('diffusers', (tensors, index) => {
    const { up, down, bias } = halves(index)
    const name = `transformer.${layers[index]?.[0]}`
    tensors.set(`${name}.lora_A.weight`, down).set(`${name}.lora_B.weight`, up)
    tensors.set(`${name}.lora_B.bias`, bias)
  }),
  original: loraFile('original', (tensors, index) => {
    const { up, down, bias, alpha } = halves(index)
    const name = `diffusion_model.${layers[index]?.[1]}`
    tensors.set(`${name}.lora_down.weight`, down).set(`${name}.lora_up.weight`, up)
    tensors.set(`${name}.alpha`, alpha).set(`${name}.diff_b`, bias)
    // The reference ignores changes of norms.
    tensors.set('diffusion_model.blocks.0.norm3.diff_b', tensor([24], noise(24, 1)))
    tensors.set('diffusion_model.blocks.0.self_attn.norm_q.diff', tensor([24], noise(24, 2)))
  }),
  kohya: loraFile('kohya', (tensors, index) => {
    const { up, down, alpha } = halves(index)
    const name = `lora_unet_${layers[index]?.[2]}`
    tensors.set(`${name}.lora_down.weight`, down).set(`${name}.lora_up.weight`, up)
    tensors.set(`${name}.alpha`, alpha)
  }),
}

for (const [spelling, biases, alphaOverRank] of [
  ['diffusers', true, 1],
  ['original', true, alpha / rank],
  ['kohya', false, alpha / rank],
] as const) {
  for (const scale of [1, 0.5]) {
    test(`${spelling}, scale ${scale}`, async () => {
      const name = await pipeline.loadLora(spellings[spelling], { scale })
      const latents = await latentsOf(pipeline)
      await pipeline.unloadLora(name)
      const folder = merged(`${spelling}-${scale}`, scale, biases, alphaOverRank)
      await using changed = await TextToVideoPipeline.fromPretrained(folder)
      const wanted = await latentsOf(changed)
      assert.ok(relativeError(wanted, own) > 0.01, 'the changes can be seen')
      assert.ok(relativeError(latents, wanted) < 1e-4, `${relativeError(latents, wanted)} off`)
      assert.deepEqual(await latentsOf(pipeline), own)
    })
  }
}

test('a change of a whole weight', async () => {
  const [out, inner] = sizes.at(-1) as [number, number]
  const difference = noise(out * inner, 5)
  const file = path.join(scratch, 'whole.safetensors')
  writeSafetensors(file, new Map([['diffusion_model.head.head.diff', tensor([out, inner], difference)]]))
  const folder = path.join(scratch, 'whole')
  cpSync(wanCheckpoint, folder, { recursive: true })
  const tensors = readSafetensors(path.join(folder, weights))
  const sum = float32(tensors, 'proj_out.weight').map((value, at) => value + (difference[at] as number))
  tensors.set('proj_out.weight', tensor([out, inner], sum))
  writeSafetensors(path.join(folder, weights), tensors)
  await using changed = await TextToVideoPipeline.fromPretrained(folder)
  const name = await pipeline.loadLora(file)
  assert.ok(relativeError(await latentsOf(pipeline), await latentsOf(changed)) < 1e-5)
  await pipeline.unloadLora(name)
})

test('several at once are the sum of each, in any order', async () => {
  const first = await pipeline.loadLora(spellings.diffusers, { scale: 0.5 })
  const second = await pipeline.loadLora(spellings.kohya, { scale: -0.5 })
  const both = await latentsOf(pipeline)
  await pipeline.unloadLora(first)
  await pipeline.loadLora(spellings.diffusers, { scale: 0.5 })
  assert.ok(relativeError(await latentsOf(pipeline), both) < 1e-5)
  await pipeline.unloadLora()
  assert.deepEqual(await latentsOf(pipeline), own)
  assert.notEqual(second, first)
})

test('what does not fit is refused by its name, and changes nothing', async () => {
  for (const [name, shape, message] of [
    ['diffusion_model.head.head.diff', [3, 3], /head\.head\.diff \[3,3\] instead of/],
    ['diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight', [24, 2], /unknown.*k_img/],
    ['diffusion_model.head.head.diff_b', [1], /diff_b \[1\] instead of/],
  ] as const) {
    const file = path.join(scratch, 'misfit.safetensors')
    const count = shape.reduce((product: number, size) => product * size, 1)
    writeSafetensors(file, new Map([[name, tensor([...shape], noise(count, 1))]]))
    await assert.rejects(pipeline.loadLora(file), { code: 'ERR_MODEL_INCOMPATIBLE', message })
  }
  assert.deepEqual(await latentsOf(pipeline), own)
})
