import assert from 'node:assert/strict'
import { type GenerateOptions, schedulerFrom, type TextToVideoPipeline, type Video } from 'torchreel'
import { relativeError } from './fixtures.js'
import { type FileTensor, type FileTensors, float32, uint8 } from './safetensors_file.js'

/** A whole call of the reference's pipeline for Wan. Arguments have the reference's names. */
export interface WanRun {
  name: string
  scheduler: string
  config: Record<string, unknown>
  seed: number
  prompt: string | string[]
  negative_prompt?: string | string[]
  height: number
  width: number
  num_frames?: number
  num_inference_steps: number
  guidance_scale: number
  strength?: number
}

/** The frames (F, H, W, 3) from which calls with a strength start. */
export function sourceFramesOf(tensors: FileTensors): { data: Uint8Array; width: number; height: number }[] {
  const { shape } = tensors.get('source.video') as FileTensor
  const [count, height, width] = shape as [number, number, number]
  const size = height * width * 3
  return Array.from({ length: count }, (_, index) => ({
    data: uint8(tensors, 'source.video').subarray(index * size, (index + 1) * size),
    width,
    height,
  }))
}

export function optionsOf(pipeline: TextToVideoPipeline, run: WanRun, tensors: FileTensors): GenerateOptions {
  return {
    scheduler: schedulerFrom(run.scheduler, { ...pipeline.scheduler.config, ...run.config }),
    seed: run.seed,
    steps: run.num_inference_steps,
    height: run.height,
    width: run.width,
    guidanceScale: run.guidance_scale,
    returnLatents: true,
    ...(run.num_frames !== undefined && { frames: run.num_frames }),
    ...(run.negative_prompt !== undefined && { negativePrompt: run.negative_prompt }),
    ...(run.strength !== undefined && { strength: run.strength, video: sourceFramesOf(tensors) }),
  }
}

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

/** The reference's latents within 1e-3 relative, its frames at most 1 apart and 99.5% equal. */
export async function assertSameAsReference(
  pipeline: TextToVideoPipeline,
  run: WanRun,
  tensors: FileTensors,
): Promise<void> {
  const prompts = [run.prompt].flat()
  const videos = await pipeline.generate(prompts, optionsOf(pipeline, run, tensors))
  assert.equal(videos.length, prompts.length)
  const latents = videos.flatMap((video) => Array.from(video.latents?.data ?? []))
  const error = relativeError(latents, float32(tensors, `pipeline.${run.name}.latents`))
  assert.ok(error < 1e-3, `latents are ${error} off`)
  assertEqualFrames(videos, uint8(tensors, `pipeline.${run.name}.frames`))
}
