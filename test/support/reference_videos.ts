import assert from 'node:assert/strict'
import type { Video } from 'torchreel'
import { relativeError } from './fixtures.js'
import { type FileTensors, float32, uint8 } from './safetensors_file.js'

/** The frames of all videos are at most 1 apart from the reference's and 99.5% equal. */
export function assertEqualFrames(videos: readonly Video[], wanted: Uint8Array): void {
  const frames = Buffer.concat(videos.map((video) => video.data))
  assert.equal(frames.length, wanted.length)
  const apart = frames.map((value, index) => Math.abs(value - (wanted[index] as number)))
  assert.ok(
    apart.every((value) => value <= 1),
    'a frame has a value more than 1 apart',
  )
  const different = apart.filter((value) => value > 0).length / wanted.length
  assert.ok(different <= 0.005, `${different * 100}% of the values differ`)
}

/** The videos of the reference's call `name`: latents within 1e-3 relative, and `assertEqualFrames`. */
export function assertSameAsReference(videos: readonly Video[], tensors: FileTensors, name: string): void {
  const latents = videos.flatMap((video) => Array.from(video.latents?.data ?? []))
  const error = relativeError(latents, float32(tensors, `pipeline.${name}.latents`))
  assert.ok(error < 1e-3, `latents are ${error} off`)
  assertEqualFrames(videos, uint8(tensors, `pipeline.${name}.frames`))
}
