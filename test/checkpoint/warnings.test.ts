// What the reference loads with a warning loads with a warning: tensors that no network needs, files that cannot be mapped.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { changedWeights } from '../support/changed_checkpoint.js'
import { startNode } from '../support/child.js'
import { tinyCheckpoint } from '../support/fixtures.js'

const small = { steps: 2, frames: 2, width: 32, height: 32, seed: 1 }

test('on a CPU without products of bfloat16, it is computed in float32, which a warning says', () => {
  const script = `
    import { TextToVideoPipeline } from 'torchreel'
    const make = async (dtype) => {
      const pipeline = await TextToVideoPipeline.fromPretrained(process.argv[1], { dtype, device: 'cpu' })
      const video = await pipeline.generate('a', { ...${JSON.stringify(small)}, latents: { data: new Float32Array(512).map((_, i) => Math.sin(i)), shape: [1, 4, 2, 8, 8] } })
      return { warnings: video.warnings, dtype: video.dtype, data: Buffer.from(video.data).toString('base64') }
    }
    console.log(JSON.stringify([await make('bfloat16'), await make('float32')]))`
  // oneDNN then refuses what this processor may have.
  const env = { ...process.env, ONEDNN_MAX_CPU_ISA: 'AVX2' }
  const parameters = ['--input-type=module', '-e', script, tinyCheckpoint]
  const [rounded, exact] = JSON.parse(execFileSync(process.execPath, parameters, { env, encoding: 'utf8' }))
  assert.equal(rounded.dtype, 'bfloat16')
  assert.equal(rounded.warnings.filter((line: string) => /compute in float32/.test(line)).length, 1)
  assert.equal(exact.warnings.length, 0)
  const near = Buffer.from(rounded.data, 'base64').map((byte, i) =>
    Math.abs(byte - (Buffer.from(exact.data, 'base64')[i] ?? 0)),
  )
  assert.ok(
    near.some((difference) => difference > 0),
    'the weights are rounded',
  )
})

test('what the CPU does not multiply fast is said to be slow, in the pipeline’s warnings and the video’s', async () => {
  const slow = ['float16']
  if (!/avx512_bf16|amx_bf16/.test(readFileSync('/proc/cpuinfo', 'utf8'))) slow.push('bfloat16')
  for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
    await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { dtype, device: 'cpu' })
    const video = await pipeline.generate('a', small)
    for (const warnings of [pipeline.warnings, video.warnings])
      assert.equal(
        warnings.filter((line) => /float16' is slow on this CPU/.test(line)).length,
        slow.includes(dtype) ? 1 : 0,
      )
  }
})

describe('tensors that a network does not need', () => {
  for (const [component, words] of [
    ['text_encoder', 'text encoder'],
    ['unet', 'denoiser'],
    ['vae', 'vae'],
  ] as const) {
    test(`in ${component} are ignored, and named up to ten`, async () => {
      await using whole = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
      const model = changedWeights(component, (tensors) => {
        for (let i = 0; i < 12; i++)
          tensors.set(`extra.${`${i}`.padStart(2, '0')}`, {
            dtype: 'F32',
            shape: [2],
            bytes: Buffer.alloc(8),
          })
      })
      await using pipeline = await TextToVideoPipeline.fromPretrained(model)
      const [warning = '', ...more] = pipeline.warnings
      assert.deepEqual(more, [])
      assert.match(
        warning,
        new RegExp(`the weights of the ${words} .*ignored; 12 not needed: extra\\.00, .*extra\\.09, …$`),
      )
      const video = await pipeline.generate('a', small)
      // Weights at another memory alignment may change the last bit of a product.
      const other = (await whole.generate('a', small)).data
      assert.ok(video.data.every((value, at) => Math.abs(value - (other[at] as number)) <= 1))
      assert.ok(video.warnings.includes(warning))
    })
  }

  test('do not hide those that are missing', async () => {
    const model = changedWeights('unet', (tensors) => {
      const bias = tensors.get('conv_out.bias')
      assert.ok(bias)
      tensors.delete('conv_out.bias')
      tensors.set('conv_out.other', bias)
    })
    await assert.rejects(TextToVideoPipeline.fromPretrained(model), {
      code: 'ERR_MODEL_INCOMPATIBLE',
      message: /1 missing: conv_out\.bias; 1 not needed: conv_out\.other/,
    })
  })
})

/** In place of mmap: safetensors files cannot be mapped. */
const shim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  char link[64], name[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = file < 0 ? 0 : readlink(link, name, sizeof name - 1);
  if (length > 12 && strcmp(name + length - 12, ".safetensors") == 0) {
    errno = atoi(getenv("MMAP_ERRNO"));
    return MAP_FAILED;
  }
  void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
  return real(address, size, protection, flags, file, offset);
}
`
const compiler = ['cc', 'gcc', 'clang'].find((name) => {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})

describe('files that cannot be mapped', { skip: compiler === undefined && 'no C compiler on PATH' }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-mmap-'))
  after(() => rmSync(folder, { recursive: true }))
  const library = path.join(folder, 'shim.so')
  if (compiler !== undefined) {
    writeFileSync(path.join(folder, 'shim.c'), shim)
    execFileSync(compiler, ['-shared', '-fPIC', '-O1', '-o', library, path.join(folder, 'shim.c'), '-ldl'])
  }
  const program = `
    import { TextToVideoPipeline } from 'torchreel'
    import { createHash } from 'node:crypto'
    const small = ${JSON.stringify(small)}
    const pipeline = await TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)}, JSON.parse(process.argv[1]))
    const hash = async () => createHash('sha256').update((await pipeline.generate('a', small)).data).digest('hex')
    console.log(JSON.stringify({ warnings: pipeline.warnings, hashes: [await hash(), await hash()] }))
    await pipeline.dispose()`
  const run = async (options: object, environment: NodeJS.ProcessEnv) => {
    const parameters = ['--input-type=module', '-e', program, JSON.stringify(options)]
    const { stdout, stderr } = await startNode(parameters, { ...process.env, ...environment }).ended
    return stderr === '' ? (JSON.parse(stdout) as { warnings: string[]; hashes: string[] }) : stderr
  }

  for (const [name, number] of [
    ['ENODEV', 19],
    ['EPERM', 1],
    ['ENOTSUP', 95],
  ] as const) {
    test(`${name}: they are read, with a warning, for the same video`, async () => {
      // With an offload, weights are copied and their pages dropped; bytes that were read must stay.
      const options = { offload: 'model', dtype: 'bfloat16' }
      const mapped = await run(options, {})
      const read = await run(options, { LD_PRELOAD: library, MMAP_ERRNO: `${number}` })
      if (typeof mapped === 'string' || typeof read === 'string') assert.fail(`${mapped} ${read}`)
      assert.deepEqual(mapped.warnings, [])
      assert.deepEqual(read.hashes, mapped.hashes)
      assert.equal(read.warnings.length, 3)
      for (const warning of read.warnings)
        assert.match(warning, /\.safetensors cannot be mapped \(.+\), so it was read into memory/)
    })
  }

  test('ENOMEM: no memory', async () => {
    assert.match(String(await run({}, { LD_PRELOAD: library, MMAP_ERRNO: '12' })), /ERR_OUT_OF_MEMORY/)
  })
})
