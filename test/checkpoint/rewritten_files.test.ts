// Weights are mapped. What is replaced by another file stays as it was for whoever has it open; what is rewritten in place
// is noticed: an error, never wrong frames and never SIGBUS.
import assert from 'node:assert/strict'
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  cpSync,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { changed, folder, unet } from '../support/changed_checkpoint.js'
import { repository, tinyCheckpoint, wanCheckpoint } from '../support/fixtures.js'

const options = { steps: 2, frames: 2, seed: 4 }
const smallCall = { steps: 1, frames: 1, width: 16, height: 16, seed: 4 }

/** Overwrites a few numbers in the middle, without a new file and without a new size. */
function overwrite(file: string): void {
  const opened = openSync(file, 'r+')
  const { size } = fstatSync(opened)
  writeSync(opened, Buffer.alloc(512, 1), 0, 512, Math.floor(size / 2))
  closeSync(opened)
}

test('[rewritten-files] a file that is deleted, or replaced by another, after it was opened: the old content stays', async () => {
  const model = changed(() => {})
  const file = path.join(model, unet)
  await using pipeline = await TextToVideoPipeline.fromPretrained(model)
  const before = await pipeline.generate('a panda', options)
  cpSync(file, `${file}.new`)
  overwrite(`${file}.new`)
  renameSync(`${file}.new`, file)
  assert.deepEqual((await pipeline.generate('a panda', options)).data, before.data)
  rmSync(file)
  assert.deepEqual((await pipeline.generate('a panda', options)).data, before.data)
})

const changes: Record<string, (file: string) => void> = {
  'cut to nothing': (file) => truncateSync(file, 0),
  'cut in half': (file) => truncateSync(file, Math.floor(readFileSync(file).length / 2)),
  'overwritten in the middle': overwrite,
  'appended to': (file) => appendFileSync(file, 'x'),
}
const vae = 'vae/diffusion_pytorch_model.safetensors'
const textEncoder = 'text_encoder/model.safetensors' // Wan's is read layer by layer, while prompts are encoded
for (const [family, checkpoint, denoiser, call] of [
  ['', tinyCheckpoint, unet, options],
  ['Wan: ', wanCheckpoint, 'transformer/diffusion_pytorch_model.safetensors', smallCall],
] as const) {
  for (const [name, change] of Object.entries(changes)) {
    test(`[rewritten-files] ${family}weights ${name} between two jobs: ERR_MODEL_CORRUPT, and the process goes on`, async () => {
      for (const file of [denoiser, vae, textEncoder]) {
        const model = changed(() => {}, checkpoint)
        await using pipeline = await TextToVideoPipeline.fromPretrained(model)
        change(path.join(model, file))
        for (let job = 0; job < 2; job++) {
          await assert.rejects(pipeline.generate('a panda', call), {
            code: 'ERR_MODEL_CORRUPT',
            message: /was rewritten while it was open/,
          })
        }
      }
    })
  }
}

test('[rewritten-files] weights cut while a job runs: ERR_MODEL_CORRUPT', async () => {
  const model = changed(() => {})
  await using pipeline = await TextToVideoPipeline.fromPretrained(model)
  const job = pipeline.generate('a panda', {
    ...{ ...options, steps: 1000 },
    onProgress: ({ stage, step }) => {
      if (stage === 'denoise' && step === 2) truncateSync(path.join(model, unet), 4096)
    },
  })
  await assert.rejects(job, { code: 'ERR_MODEL_CORRUPT', message: /was rewritten while it was open/ })
})

test('[rewritten-files] a LoRA that is cut after it was loaded: ERR_MODEL_CORRUPT', async () => {
  const model = changed(() => {})
  const lora = path.join(folder, 'lora.safetensors')
  copyFileSync(`${repository}test/fixtures/adapters/peft.safetensors`, lora)
  await using pipeline = await TextToVideoPipeline.fromPretrained(model, { offload: 'model' })
  await pipeline.loadLora(lora)
  truncateSync(lora, 4096)
  await assert.rejects(pipeline.generate('a panda', options), { code: 'ERR_MODEL_CORRUPT' })
})
