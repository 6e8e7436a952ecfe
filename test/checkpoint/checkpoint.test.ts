// Checkpoints that are missing, broken, renamed, sharded, or in other types.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, test } from 'node:test'
import { TextToVideoPipeline, TorchreelError, type TorchreelErrorCode } from 'torchreel'
import { changed, changedConfig, changedWeights, folder, unet } from '../support/changed_checkpoint.js'
import { startProgram } from '../support/child.js'
import { tinyCheckpoint } from '../support/fixtures.js'
import { readSafetensors, writeSafetensors } from '../support/safetensors_file.js'

const options = { steps: 2, frames: 2, seed: 4 }

async function framesOf(model: string, loading: object = {}): Promise<Uint8Array> {
  await using pipeline = await TextToVideoPipeline.fromPretrained(model, loading)
  return (await pipeline.generate('a panda', options)).data
}

const golden = await framesOf(tinyCheckpoint)

/** The golden frames; where weights lie in memory may move a last bit, and with it a value by one. */
function assertGolden(frames: Uint8Array): void {
  assert.equal(frames.length, golden.length)
  const apart = frames.map((value, index) => Math.abs(value - (golden[index] as number)))
  assert.ok(Math.max(...apart) <= 1 && apart.filter((value) => value > 0).length < golden.length / 100)
}

describe('what is refused, and how', () => {
  const cases: [string, TorchreelErrorCode, RegExp, () => string][] = [
    [
      '[missing-files] no folder',
      'ERR_MODEL_NOT_FOUND',
      /no model folder/,
      () => path.join(folder, 'nowhere'),
    ],
    [
      '[missing-files] a file instead of a folder',
      'ERR_MODEL_NOT_FOUND',
      /is a file, not a model's folder/,
      () => `${tinyCheckpoint}/model_index.json`,
    ],
    ...['model_index.json', 'unet/config.json', 'tokenizer/vocab.json', 'tokenizer/merges.txt', unet].map(
      (name): (typeof cases)[number] => [
        `[missing-files] without ${name}`,
        'ERR_MODEL_NOT_FOUND',
        new RegExp(`${name.replace('.', '\\.')}`),
        () => changed((file) => rmSync(file(name))),
      ],
    ),
    [
      '[tiny-weights] weights of 0 bytes',
      'ERR_MODEL_CORRUPT',
      /0 bytes/,
      () => changed((file) => truncateSync(file(unet))),
    ],
    [
      '[tiny-weights] weights of 7 bytes',
      'ERR_MODEL_CORRUPT',
      /7 bytes/,
      () => changed((file) => truncateSync(file(unet), 7)),
    ],
    [
      '[cut-files] weights cut in half',
      'ERR_MODEL_CORRUPT',
      /are there/,
      () => changed((file) => truncateSync(file(unet), 5e6)),
    ],
    [
      '[header-offsets] bytes after the weights',
      'ERR_MODEL_CORRUPT',
      /are there/,
      () => changed((file) => appendFileSync(file(unet), 'x')),
    ],
    [
      '[lfs-pointers] a Git LFS pointer',
      'ERR_MODEL_CORRUPT',
      /git lfs pull/,
      () =>
        changed((file) =>
          writeFileSync(file(unet), 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
        ),
    ],
    [
      'a config that is no JSON',
      'ERR_MODEL_CORRUPT',
      /not a JSON object/,
      () => changed((file) => writeFileSync(file('vae/config.json'), '{')),
    ],
    [
      'a config that is an array',
      'ERR_MODEL_CORRUPT',
      /not a JSON object/,
      () => changed((file) => writeFileSync(file('vae/config.json'), '[]')),
    ],
    ...(['unet/config.json', 'tokenizer/vocab.json', 'tokenizer/merges.txt', unet] as const).map(
      (name): (typeof cases)[number] => [
        `[missing-files] a pipe for ${name}, which nobody writes to`,
        'ERR_MODEL_CORRUPT',
        /not a regular file/,
        () =>
          changed((file) => {
            rmSync(file(name))
            execFileSync('mkfifo', [file(name)])
          }),
      ],
    ),
    [
      '[wrong-configs] a config that calls itself deeply',
      'ERR_MODEL_CORRUPT',
      /not a JSON object/,
      () => changed((file) => writeFileSync(file('unet/config.json'), '{"a":'.repeat(1e5))),
    ],
    [
      '[wrong-configs] a scheduler whose numbers make no sense',
      'ERR_MODEL_CORRUPT',
      /scheduler_config\.json: num_train_timesteps must be/,
      () =>
        changed((file) => {
          const name = file('scheduler/scheduler_config.json')
          writeFileSync(name, readFileSync(name, 'utf8').replace(/("num_train_timesteps": )\d+/, '$1-1'))
        }),
    ],
    [
      'another kind of pipeline',
      'ERR_MODEL_INCOMPATIBLE',
      /is a StableDiffusionPipeline; torchreel runs TextToVideoSDPipeline, VideoToVideoSDPipeline, WanPipeline.*, such as .*Wan2\.1-T2V/,
      () =>
        changed((file) =>
          writeFileSync(file('model_index.json'), '{"_class_name":"StableDiffusionPipeline"}'),
        ),
    ],
    [
      '[wrong-tensors] a tensor is missing',
      'ERR_MODEL_INCOMPATIBLE',
      /1 missing: conv_in\.weight$/,
      () => changedWeights('unet', (tensors) => tensors.delete('conv_in.weight')),
    ],
    [
      '[wrong-tensors] a tensor of another shape',
      'ERR_MODEL_INCOMPATIBLE',
      /1 of another shape or type: conv_out\.bias \[2, 2\] instead of \[4\]$/,
      () =>
        changedWeights('unet', (tensors) => {
          const bias = tensors.get('conv_out.bias')
          if (bias) bias.shape = [2, 2]
        }),
    ],
    [
      '[wrong-tensors] a tensor of whole numbers',
      'ERR_MODEL_INCOMPATIBLE',
      /conv_out\.bias as Int/,
      () =>
        changedWeights('unet', (tensors) => {
          const bias = tensors.get('conv_out.bias')
          if (bias) bias.dtype = 'I32'
        }),
    ],
    [
      '[wrong-tensors] many are missing: ten are named',
      'ERR_MODEL_INCOMPATIBLE',
      /\d\d+ missing: ([\w.]+, ){10}…/,
      () =>
        changedWeights('unet', (tensors) => {
          for (const name of [...tensors.keys()].slice(0, 60)) tensors.delete(name)
        }),
    ],
    [
      '[wrong-configs] an architecture without a graph, with the command that exports one',
      'ERR_MODEL_INCOMPATIBLE',
      /python3 .*models\/export\.py /,
      () =>
        changedConfig('unet', (config) => {
          config.layers_per_block = 2
        }),
    ],
    ...[-1, 1e9, '__proto__', null].map((layers): (typeof cases)[number] => [
      `[wrong-configs] ${layers} layers`,
      'ERR_MODEL_INCOMPATIBLE',
      /export/,
      () =>
        changedConfig('unet', (config) => {
          config.layers_per_block = layers
        }),
    ]),
    [
      '[wrong-configs] a nonsense VAE',
      'ERR_MODEL_INCOMPATIBLE',
      /export/,
      () =>
        changedConfig('vae', (config) => {
          config.block_out_channels = 'x'
        }),
    ],
  ]
  for (const [name, code, words, make] of cases) {
    test(name, async () => {
      await assert.rejects(TextToVideoPipeline.fromPretrained(make()), (error) => {
        assert.ok(error instanceof TorchreelError, String(error))
        assert.equal(error.code, code, error.message)
        assert.match(error.message, words)
        return true
      })
    })
  }
})

describe('what is taken', () => {
  test('the attention names of old VAE files, and int64 position_ids', async () => {
    const model = changedWeights('vae', (tensors) => {
      for (const [name, tensor] of [...tensors]) {
        const old = name
          .replace('.to_q.', '.query.')
          .replace('.to_k.', '.key.')
          .replace('.to_v.', '.value.')
          .replace('.to_out.0.', '.proj_attn.')
        tensors.delete(name)
        tensors.set(old, tensor)
      }
    })
    const text = path.join(model, 'text_encoder/model.safetensors')
    const tensors = readSafetensors(text)
    const positions = BigInt64Array.from({ length: 77 }, (_, i) => BigInt(i))
    tensors.set('text_model.embeddings.position_ids', {
      dtype: 'I64',
      shape: [1, 77],
      bytes: Buffer.from(positions.buffer),
    })
    writeSafetensors(text, tensors)
    assertGolden(await framesOf(model))
  })

  test('shards', async () => {
    const model = changed((file) => {
      const tensors = [...readSafetensors(file(unet))]
      rmSync(file(unet))
      const map: Record<string, string> = {}
      for (const part of [0, 1]) {
        const name = `diffusion_pytorch_model-0000${part + 1}-of-00002.safetensors`
        const own = tensors.filter((_, index) => index % 2 === part)
        for (const [tensor] of own) map[tensor] = name
        writeSafetensors(file(`unet/${name}`), new Map(own))
      }
      writeFileSync(file(`${unet}.index.json`), JSON.stringify({ weight_map: map }))
    })
    assertGolden(await framesOf(model))
  })

  test('float64 and misaligned weights are converted', async () => {
    const wide = changedWeights('unet', (tensors) => {
      for (const tensor of tensors.values()) {
        const numbers = new Float32Array(new Uint8Array(tensor.bytes).buffer)
        tensor.bytes = Buffer.from(Float64Array.from(numbers).buffer)
        tensor.dtype = 'F64'
      }
    })
    assertGolden(await framesOf(wide))
    const [first, ...rest] = [...readSafetensors(`${tinyCheckpoint}/${unet}`)]
    const shifted = changed((file) => {
      for (let pad = 1; pad < 8; pad++) {
        // Whatever the header's length is modulo 8, one of these names moves the numbers off their boundary.
        writeSafetensors(file(unet), new Map([first as never, ...rest]))
        const content = readFileSync(file(unet))
        const end = 8 + Number(content.readBigUInt64LE(0))
        const header = Buffer.concat([content.subarray(8, end), Buffer.alloc(pad, ' ')])
        if ((8 + header.length) % 4 === 0) continue
        const length = Buffer.alloc(8)
        length.writeBigUInt64LE(BigInt(header.length))
        writeFileSync(file(unet), Buffer.concat([length, header, content.subarray(end)]))
        return
      }
    })
    assertGolden(await framesOf(shifted))
  })

  test('only fp16 files: used, and said', async () => {
    const model = changed((file) => {
      for (const name of [
        unet,
        'vae/diffusion_pytorch_model.safetensors',
        'text_encoder/model.safetensors',
      ]) {
        cpSync(file(name), file(name.replace('.safetensors', '.fp16.safetensors')))
        rmSync(file(name))
      }
    })
    await using pipeline = await TextToVideoPipeline.fromPretrained(model)
    const video = await pipeline.generate('a panda', options)
    assert.match(video.warnings.join('\n'), /unet: only the fp16 variant/)
    assertGolden(video.data)
    assertGolden(await framesOf(model, { variant: 'fp16' }))
    await assert.rejects(TextToVideoPipeline.fromPretrained(model, { variant: 'fp8' }), {
      code: 'ERR_MODEL_NOT_FOUND',
    })
  })

  test('a scheduler config that Python wrote with -Infinity', async () => {
    const model = changed((file) => {
      const name = file('scheduler/scheduler_config.json')
      const config = JSON.parse(readFileSync(name, 'utf8'))
      const text = JSON.stringify({
        ...config,
        _class_name: 'DPMSolverMultistepScheduler',
        note: '-Infinity',
      })
      writeFileSync(name, text.replace(/}$/, ',"lambda_min_clipped": -Infinity}'))
    })
    assertGolden(await framesOf(model))
  })

  test('a scheduler class that is not known: the result says what took its config, and it cannot be asked for', async () => {
    for (const name of ['FooScheduler', 'constructor', '__proto__', 5, undefined]) {
      const model = changed((file) => {
        const config = file('scheduler/scheduler_config.json')
        writeFileSync(
          config,
          JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), _class_name: name }),
        )
      })
      await using pipeline = await TextToVideoPipeline.fromPretrained(model)
      const options = { steps: 1, frames: 1 }
      const { scheduler, warnings } = await pipeline.generate('a panda', options)
      assert.equal(scheduler, 'DPMSolverMultistepScheduler')
      assert.match(
        warnings.join(),
        new RegExp(
          `^scheduler: torchreel has no class "?${name}"?; DPMSolverMultistepScheduler uses its config`,
        ),
      )
      await assert.rejects(pipeline.generate('a panda', { ...options, scheduler: 'checkpoint' }), {
        code: 'ERR_INVALID_ARGUMENT',
        parameter: 'scheduler',
        message: /euler.*class name/,
      })
    }
    await using known = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    assert.deepEqual(known.warnings, [])
  })

  test('a second load in the same dtype copies no weights', async () => {
    const { ended } = startProgram(
      `
      import { readFileSync } from 'node:fs'
      const load = () => torchreel.TextToVideoPipeline.fromPretrained(pipeline.folder)
      const resident = () => {
        globalThis.gc()
        const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1])
        return 4096 * pages - process.memoryUsage().heapTotal
      }
      await pipeline.generate('a panda', { steps: 1, frames: 1 })
      const second = await load()
      await second.generate('a panda', { steps: 1, frames: 1 })
      const kept = []
      const before = resident()
      for (let i = 0; i < 4; i++) kept.push(await load())
      const maps = readFileSync('/proc/self/maps', 'utf8').split('\\n')
      console.log(JSON.stringify({
        growth: (resident() - before) / 4,
        mapped: maps.filter((line) => line.endsWith('.safetensors')).length,
      }))`,
      ['--expose-gc'],
    )
    const { code, stdout } = await ended
    assert.equal(code, 0)
    const { growth, mapped } = JSON.parse(stdout) as { growth: number; mapped: number }
    assert.equal(mapped, 3, 'six pipelines map each of three files once')
    // The weights are 20 MB. What else a pipeline takes besides its vocabulary on V8's heap is graphs and a thread.
    assert.ok(growth < 12e6, `each further load took ${growth} bytes`)
  })
})
