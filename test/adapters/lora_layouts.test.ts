// The layouts that LoRA files have: each is loaded as the same LoRA in the layout of diffusers, or as weights into which it was
// merged. Adapters of other kinds are refused by their names.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, afterEach, describe, test } from 'node:test'
import { TextToVideoPipeline, type TorchreelError } from 'torchreel'
import { relativeError, repository, tinyCheckpoint } from '../support/fixtures.js'
import {
  type FileTensor,
  type FileTensors,
  float32,
  readSafetensors,
  writeSafetensors,
} from '../support/safetensors_file.js'

const fixture = readSafetensors(`${repository}test/fixtures/adapters/peft.safetensors`)
const made = mkdtempSync(path.join(tmpdir(), 'torchreel-lora-layouts-'))
const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { device: 'cpu' })
after(async () => {
  await pipeline.dispose()
  rmSync(made, { recursive: true })
})
afterEach(() => pipeline.unloadLora())

async function latentsOf(from = pipeline): Promise<Float32Array> {
  const { latents } = await from.generate('a boat', {
    ...{ steps: 2, frames: 2, width: 64, height: 64, seed: 5, returnLatents: true },
  })
  return latents?.data as Float32Array
}

let files = 0
function write(tensors: Iterable<readonly [string, FileTensor]>, folder?: string): string {
  if (folder !== undefined) mkdirSync(folder)
  const file = path.join(folder ?? made, folder ? 'adapter_model.safetensors' : `${files++}.safetensors`)
  writeSafetensors(file, new Map(tensors))
  return file
}

/** The fixture's tensors, those of one network or of all, under other names. */
const renamed = (rename: (name: string) => string, network = ''): [string, FileTensor][] =>
  [...fixture].filter(([name]) => name.startsWith(network)).map(([name, tensor]) => [rename(name), tensor])

const plain = (network = '') => renamed((name) => name, network)

function numbers(shape: number[], values: ArrayLike<number>): FileTensor {
  return { dtype: 'F32', shape, bytes: Buffer.from(Float32Array.from(values).buffer) }
}

/** Loads both files, one after the other, and compares what they lead to, bit by bit. */
async function assertSame(file: string, wanted: string, scale = 1): Promise<void> {
  await pipeline.loadLora(wanted, { scale })
  const expected = await latentsOf()
  await pipeline.unloadLora()
  await pipeline.loadLora(file)
  assert.deepEqual(await latentsOf(), expected)
  await pipeline.unloadLora()
  assert.notDeepEqual(await latentsOf(), expected)
}

describe('names', () => {
  const whole = write(plain())
  const unet = write(plain('unet.'))

  for (const [what, rename] of Object.entries({
    "with the adapter's name in them": (name: string) => name.replace('.weight', '.default.weight'),
    'with another adapter’s name': (name: string) => name.replace('.weight', '.my_style-2.weight'),
    'without a network in front': (name: string) => name.replace(/^(unet|text_encoder)\./, ''),
    'with PEFT’s prefix': (name: string) => name.replace(/^(unet|text_encoder)\./, 'base_model.model.'),
    'with PEFT’s prefix before the network': (name: string) => `base_model.model.${name}`,
  })) {
    test(what, () => assertSame(write(renamed(rename)), whole))
  }

  test('of attention processors, without a network in front', async () => {
    const old = renamed(
      (name) =>
        name
          .replace('unet.', '')
          .replace(/attn([12])\.(to_\w+)(\.0)?\.lora_A/, 'attn$1.processor.$2_lora.down')
          .replace(/attn([12])\.(to_\w+)(\.0)?\.lora_B/, 'attn$1.processor.$2_lora.up'),
      'unet.',
    )
    assert.ok(old.some(([name]) => name.includes('.processor.to_out_lora.down.weight')))
    await assertSame(write(old), unet)
  })

  test('twice in one file, under the names of two adapters: refused', async () => {
    const two = renamed((name) => name.replace('.weight', '.a.weight'))
    two.push(...renamed((name) => name.replace('.weight', '.b.weight')))
    await assert.rejects(pipeline.loadLora(write(two)), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /unknown.*\.b\./,
    })
  })
})

describe('folders', () => {
  const unet = write(plain('unet.'))
  const peft = renamed((name) => name.replace('unet.', 'base_model.model.'), 'unet.')
  const folderOf = (name: string, config: unknown): string => {
    const folder = path.join(made, name)
    write(peft, folder)
    writeFileSync(path.join(folder, 'adapter_config.json'), JSON.stringify(config))
    return folder
  }
  const config = { peft_type: 'LORA', r: 4, lora_alpha: 32, use_rslora: false, alpha_pattern: {} }

  test('PEFT’s, with α of its adapter_config.json', async () => {
    const folder = folderOf('peft', config)
    assert.equal(await pipeline.loadLora(folder), 'peft')
    const file = path.join(folder, 'adapter_model.safetensors')
    assert.deepEqual(pipeline.adapters, [{ name: 'peft', file, scale: 1 }])
    assert.equal(await pipeline.loadLora(`${folder}/`), 'peft_2')
    await pipeline.unloadLora()
    await assertSame(folder, unet, 32 / 4)
    await assertSame(file, unet, 32 / 4)
  })

  test('rank-stabilised', () => assertSame(folderOf('rslora', { ...config, use_rslora: true }), unet, 16))

  for (const [name, alpha_pattern] of [
    ['names', { conv_in: 12, 'attn1.to_q': 2 }],
    ['expressions', { '^conv_(in|none)': 12, '.*attn1\\.to_q$': 2, '^attn1': 5 }],
  ] as const)
    test(`α of some layers, by ${name}`, async () => {
      const folder = folderOf(`pattern-${name}`, { ...config, lora_alpha: 4, alpha_pattern })
      // The same scales, as α of Kohya's layout.
      const kohya = renamed((name) => {
        const [, layer = '', half] = /^unet\.(.+)\.lora_([AB])\.weight$/.exec(name) ?? []
        return `lora_unet_${layer.replaceAll('.', '_')}.lora_${half === 'A' ? 'down' : 'up'}.weight`
      }, 'unet.')
      for (const [name] of [...kohya]) {
        if (!name.endsWith('down.weight')) continue
        const alpha = name.includes('conv_in') ? 12 : name.includes('attn1_to_q') ? 2 : 4
        kohya.push([name.replace('.lora_down.weight', '.alpha'), numbers([], [alpha])])
      }
      await assertSame(folder, write(kohya))
    })

  test('an expression for α that is not read, or could take long, is refused', async () => {
    for (const [index, pattern] of ['(a+)+$', '(?i)conv', '(conv', '.*.*.*x', 'conv_in{2}'].entries()) {
      const folder = folderOf(`unread-${index}`, { ...config, alpha_pattern: { [pattern]: 2 } })
      await assert.rejects(pipeline.loadLora(folder), (error: TorchreelError) => {
        assert.equal(error.code, 'ERR_MODEL_INCOMPATIBLE')
        assert.ok(
          error.message.includes(`alpha_pattern has the expression ${JSON.stringify(pattern)}`),
          error.message,
        )
        return true
      })
    }
  })

  test('another kind of adapter that only the configuration names', async () => {
    await assert.rejects(pipeline.loadLora(folderOf('kind', { ...config, peft_type: 'FOURIERFT' })), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /is a FOURIERFT \(peft_type\)/,
    })
  })

  test('a configuration beside a file that PEFT did not save does not count', async () => {
    const folder = path.join(made, 'beside')
    const file = write(plain('unet.'), folder)
    writeFileSync(path.join(folder, 'adapter_config.json'), JSON.stringify(config))
    await assertSame(file, unet)
  })

  test('diffusers’', async () => {
    const folder = path.join(made, 'diffusers')
    mkdirSync(folder)
    cpSync(unet, path.join(folder, 'pytorch_lora_weights.safetensors'))
    await assertSame(folder, unet)
  })

  test('an empty one, one with a pickle, a configuration that is no JSON, and α that is no number', async () => {
    const empty = path.join(made, 'empty')
    mkdirSync(empty)
    await assert.rejects(pipeline.loadLora(empty), {
      code: 'ERR_MODEL_NOT_FOUND',
      path: empty,
      message: /adapter_model\.safetensors or pytorch_lora_weights\.safetensors/,
    })
    writeFileSync(path.join(empty, 'adapter_model.bin'), 'PK')
    await assert.rejects(pipeline.loadLora(empty), {
      code: 'ERR_MODEL_UNTRUSTED',
      message: /adapter_model\.bin/,
    })
    const broken = folderOf('broken', config)
    writeFileSync(path.join(broken, 'adapter_config.json'), '{')
    await assert.rejects(pipeline.loadLora(broken), { code: 'ERR_MODEL_CORRUPT', message: /adapter_config/ })
    const word = folderOf('word', { ...config, lora_alpha: 'eight' })
    await assert.rejects(pipeline.loadLora(word), {
      code: 'ERR_MODEL_CORRUPT',
      message: /lora_alpha.*"eight"/,
    })
    const dora = folderOf('dora', { ...config, use_dora: true })
    await assert.rejects(pipeline.loadLora(dora), { code: 'ERR_MODEL_INCOMPATIBLE', message: /DoRA/ })
  })
})

describe('types', () => {
  const layer = 'lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q'
  const values = [0, 0.5, -1, 1.5, 2, -0.125, 0.25, 3] // all of them are float8
  const at = (i: number) => values[(i * 5 + (i >> 3)) % values.length] as number
  const halves = (alpha?: FileTensor): [string, FileTensor][] => [
    [
      `${layer}.lora_down.weight`,
      numbers(
        [4, 32],
        Array.from({ length: 128 }, (_, i) => at(i) / 8),
      ),
    ],
    [
      `${layer}.lora_up.weight`,
      numbers(
        [32, 4],
        Array.from({ length: 128 }, (_, i) => at(i + 3)),
      ),
    ],
    ...(alpha ? [[`${layer}.alpha`, alpha] as [string, FileTensor]] : []),
  ]

  for (const [dtype, size] of [
    ['I64', 8],
    ['I32', 4],
    ['I16', 2],
    ['U8', 1],
  ] as const) {
    test(`α of type ${dtype}`, () => {
      const bytes = Buffer.alloc(size)
      bytes[0] = 3
      return assertSame(write(halves({ dtype, shape: [], bytes })), write(halves(numbers([], [3]))))
    })
  }

  test('α of shape [1]', () => assertSame(write(halves(numbers([1], [3]))), write(halves(numbers([], [3])))))

  for (const [dtype, mantissa, bias] of [
    ['F8_E4M3', 3, 7],
    ['F8_E5M2', 2, 15],
  ] as const) {
    test(`halves of type ${dtype}`, () => {
      /** Sign, exponent and mantissa of a number that the type holds. */
      const encoded = (value: number) => {
        if (value === 0) return 0
        const exponent = Math.floor(Math.log2(Math.abs(value)))
        const fraction = Math.abs(value) / 2 ** exponent - 1
        return (value < 0 ? 0x80 : 0) | ((exponent + bias) << mantissa) | (fraction * 2 ** mantissa)
      }
      const reduced = halves().map(([name, { shape, bytes }]): [string, FileTensor] => {
        const floats = new Float32Array(new Uint8Array(bytes).buffer)
        return [name, { dtype, shape, bytes: Buffer.from(Array.from(floats, encoded)) }]
      })
      return assertSame(write(reduced), write(halves()))
    })
  }

  test('halves of integers are refused with their type', async () => {
    const [down, up] = halves() as [[string, FileTensor], [string, FileTensor]]
    const integers = { ...down[1], dtype: 'I32' }
    await assert.rejects(pipeline.loadLora(write([[down[0], integers], up])), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /1 of another shape or type: lora_unet_\w+\.lora_down\.weight of type I32$/,
    })
  })
})

describe('the ModelScope trainer’s (stable_lora)', () => {
  const weightsFile = 'unet/diffusion_pytorch_model.safetensors'
  const weights = readSafetensors(path.join(tinyCheckpoint, weightsFile))

  /** up @ down of an update with its halves as matrices. */
  function product([rows, rank]: [number, number], up: Float32Array, columns: number, down: Float32Array) {
    return Float64Array.from({ length: rows * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns]
      let sum = 0
      for (let k = 0; k < rank; k++)
        sum += (up[row * rank + k] as number) * (down[k * columns + column] as number)
      return sum
    })
  }

  test('linear layers', async () => {
    const layers = /attn1\.to_q|attn2\.to_v|ff\.net/
    const linear = plain('unet.').filter(([name]) => layers.test(name))
    const stable = linear.map(([name, tensor]) => [name.replace(/^unet\.|\.weight$/g, ''), tensor] as const)
    await assertSame(write(stable), write(linear))
  })

  for (const [what, layer] of [
    ['a convolution in space', 'conv_in'],
    ['a wide convolution in space', 'down_blocks.0.resnets.0.conv1'],
    ['a convolution of 1 × 1', 'down_blocks.1.resnets.0.conv_shortcut'],
    ['a convolution in time', 'down_blocks.0.temp_convs.0.conv1.2'],
  ] as const) {
    test(what, async () => {
      const shape = weights.get(`${layer}.weight`)?.shape as number[]
      const [out, inner, k] = shape as [number, number, number]
      const rank = 2 * k
      const down = Float32Array.from({ length: rank * inner * k }, (_, i) => Math.sin(i) * 0.2)
      const up = Float32Array.from({ length: out * k * rank }, (_, i) => Math.cos(3 * i) * 0.2)
      const file = write([
        [`${layer}.lora_A`, numbers([rank, inner * k], down)],
        [`${layer}.lora_B`, numbers([out * k, rank], up)],
      ])

      // The trainer views the product as (out, in, k, k), and takes the mean over the last k where the kernel has none.
      const update = product([out * k, rank], up, inner * k, down)
      const merged: FileTensors = new Map(weights)
      const weight = float32(weights, `${layer}.weight`)
      const per = update.length / weight.length
      assert.equal(per, shape.length === 5 ? k : 1)
      const changed = weight.map((value, i) => {
        const part = update.subarray(i * per, (i + 1) * per)
        return value + part.reduce((sum, one) => sum + one, 0) / per
      })
      merged.set(`${layer}.weight`, numbers(shape, changed))
      const checkpoint = path.join(made, `merged-${layer}`)
      cpSync(tinyCheckpoint, checkpoint, { recursive: true })
      writeSafetensors(path.join(checkpoint, weightsFile), merged)
      await using reference = await TextToVideoPipeline.fromPretrained(checkpoint, { device: 'cpu' })

      const without = await latentsOf()
      await pipeline.loadLora(file)
      const expected = await latentsOf(reference)
      const error = relativeError(await latentsOf(), expected)
      const effect = relativeError(without, expected)
      assert.ok(error < 1e-5 && effect > 1e-3, `${error} off, and the LoRA changes ${effect}`)
    })
  }
})

describe('adapters of other kinds are refused by their names', () => {
  const layer = 'unet.conv_in'
  const kohya = 'lora_unet_conv_in'
  const any = numbers([1], [1])
  for (const [kind, name] of [
    ['DoRA', `${layer}.lora_magnitude_vector`],
    ['DoRA', `${layer}.lora_magnitude_vector.weight`],
    ['DoRA', `base_model.model.conv_in.lora_magnitude_vector.default.weight`],
    ['DoRA', `${kohya}.dora_scale`],
    ['LoHa', `${kohya}.hada_w1_a`],
    ['LoHa', `${kohya}.hada_t1`],
    ['LoKr', `${kohya}.lokr_w1`],
    ['LoKr', `${kohya}.lokr_w2_b`],
    ['LoRA with a Tucker core', `${kohya}.lora_mid.weight`],
    ['AdaLoRA', 'base_model.model.conv_in.lora_E'],
    ['OFT', 'base_model.model.conv_in.oft_R.weight'],
    ['OFT', `${kohya}.oft_blocks`],
    ['BOFT', 'base_model.model.conv_in.boft_R'],
    ['IA3', 'base_model.model.conv_in.ia3_l'],
    ['VeRA', 'base_model.model.conv_in.vera_lambda_b'],
  ] as const) {
    test(`${kind}: ${name}`, async () => {
      const file = write([...plain(), [name, any]])
      await assert.rejects(pipeline.loadLora(file), (error: TorchreelError) => {
        assert.equal(error.code, 'ERR_MODEL_INCOMPATIBLE')
        const article = /^[AIO]/.test(kind) ? 'an' : 'a'
        assert.ok(error.message.includes(`is ${article} ${kind} (${name})`), error.message)
        return true
      })
      assert.deepEqual(pipeline.adapters, [])
    })
  }
})
