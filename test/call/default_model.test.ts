// What a call uses that names no model, and how it says so.
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { generate, TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'

const cacheDir = mkdtempSync(path.join(tmpdir(), 'torchreel-default-model-'))
after(() => rmSync(cacheDir, { recursive: true }))

/** Puts the tiny checkpoint into the cache under a name. */
function cache(owner: string, name: string): string {
  const repository = path.join(cacheDir, `models--${owner}--${name}`)
  const commit = '0123456789abcdef0123456789abcdef01234567'
  cpSync(tinyCheckpoint, path.join(repository, 'snapshots', commit), { recursive: true })
  mkdirSync(path.join(repository, 'refs'))
  writeFileSync(path.join(repository, 'refs', 'main'), commit)
  return repository
}

test('shapes, at its own guidance, where the cache does not hold the published model', async () => {
  const video = await generate('a star', { cacheDir, steps: 2, frames: 4, seed: 1 })
  assert.equal(video.model, 'shapes')
  assert.equal(video.guidanceScale, 3)
  assert.match(video.warnings?.[0] ?? '', /no model was named.*shapes/)

  const named = await generate('a star', { model: 'shapes', steps: 2, frames: 4, seed: 1 })
  assert.deepEqual(named.data, video.data)
  assert.deepEqual(named.warnings, [])
})

test('the published model where the cache holds it whole, under either of its names', async () => {
  for (const owner of ['ali-vilab', 'damo-vilab']) {
    const repository = cache(owner, 'text-to-video-ms-1.7b')
    await using pipeline = await TextToVideoPipeline.fromPretrained(undefined, { cacheDir })
    assert.equal(pipeline.model, `${owner}/text-to-video-ms-1.7b`)
    assert.match(pipeline.warnings[0] ?? '', /no model was named/)
    rmSync(path.join(repository, 'snapshots'), { recursive: true })
  }
})

test('a guidance that is named wins over the model’s own', async () => {
  const video = await generate('a star', { cacheDir, steps: 2, frames: 4, guidanceScale: 1 })
  assert.equal(video.guidanceScale, 1)
})
