import { type GenerateOptions, schedulerFrom, type TextToVideoPipeline } from 'torchreel'
import { type FileTensor, type FileTensors, uint8 } from './safetensors_file.js'

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
