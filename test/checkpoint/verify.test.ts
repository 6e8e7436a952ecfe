// Weights with bits flipped load as they are, unless they are compared with the sha256 that is known of them.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { changed, folder, unet } from '../support/changed_checkpoint.js'
import { startNode } from '../support/child.js'
import { repository } from '../support/fixtures.js'

const vae = 'vae/diffusion_pytorch_model.safetensors'
const weights = [unet, vae, 'text_encoder/model.safetensors']
const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex')
const load = async (model: string, options: object = { verify: true }) =>
  (await TextToVideoPipeline.fromPretrained(model, options)).dispose()

/** Flips a bit of the numbers, in the middle of the file. */
function flip(file: string): void {
  const content = readFileSync(file)
  const at = Math.floor(content.length / 2)
  content[at] = (content[at] as number) ^ 1
  writeFileSync(file, content)
}

const withSums = () =>
  changed((file) => {
    const lines = weights.map((name, index) => `${sha256(file(name))} ${index ? ' ' : '*'}${name}\n`)
    writeFileSync(file('SHA256SUMS'), lines.join(''))
  })

test('42: a bit flipped in the numbers of each file: ERR_MODEL_CORRUPT by SHA256SUMS', async () => {
  for (const name of weights) {
    const model = withSums()
    await load(model)
    const file = path.join(model, name)
    const expected = sha256(file)
    flip(file)
    await load(model, {}) // nobody asked
    const received = sha256(file)
    await assert.rejects(load(model), { code: 'ERR_MODEL_CORRUPT', path: file, expected, received })
  }
})

test('42: … and by the names of the cache’s blobs', async () => {
  const repositoryFolder = path.join(folder, 'models--a--b')
  const blobs = path.join(repositoryFolder, 'blobs')
  const snapshot = path.join(repositoryFolder, 'snapshots', '0'.repeat(40))
  mkdirSync(blobs, { recursive: true })
  mkdirSync(path.dirname(snapshot))
  renameSync(
    changed((file) => {
      for (const name of weights) {
        const hash = sha256(file(name))
        renameSync(file(name), path.join(blobs, hash))
        symlinkSync(`../../../blobs/${hash}`, file(name))
      }
    }),
    snapshot,
  )
  await load(snapshot)
  flip(path.join(snapshot, vae))
  await assert.rejects(load(snapshot), { code: 'ERR_MODEL_CORRUPT', path: path.join(snapshot, vae) })
})

test('42: verify where no sha256 is known, and on the command line', async () => {
  const model = changed(() => {})
  await assert.rejects(load(model), { code: 'ERR_INVALID_ARGUMENT', parameter: 'verify' })
  await assert.rejects(load(model, { verify: 'yes' }), { code: 'ERR_INVALID_ARGUMENT', parameter: 'verify' })
  const broken = withSums()
  flip(path.join(broken, unet))
  const parameters = ['a', '--model', broken, '--verify', '-o', path.join(folder, 'a.apng')]
  const { code, stderr } = await startNode([`${repository}dist/cli/main.js`, ...parameters]).ended
  assert.equal(code, 1)
  assert.match(stderr, /sha256 mismatch, expected .* \[ERR_MODEL_CORRUPT\]/)
})

test('42: an abort ends it', async () => {
  const reason = new Error('enough')
  const signal = AbortSignal.abort(reason)
  await assert.rejects(load(withSums(), { verify: true, signal }), (error) => error === reason)
})
