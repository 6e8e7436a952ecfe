import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { readSafetensors } from './safetensors_file.js'

/** The repository, seen from build/test/support. */
export const repository = fileURLToPath(new URL('../../../', import.meta.url))

/** A small checkpoint with random weights in the published layout, and the reference's results with it. */
export const tiny = `${repository}test/fixtures/tiny/`
export const tinyCheckpoint = `${tiny}checkpoint`
/** The small checkpoint of a Wan model. */
export const wanCheckpoint = `${repository}test/fixtures/wan/checkpoint`

/** One complete run of the reference's pipeline. Arguments have the reference's names. */
export interface PipelineCase {
  name: string
  scheduler: string
  seed: number
  prompt: string | string[]
  negative_prompt?: string
  guidance_scale?: number
  eta?: number
  clip_skip?: number
  num_inference_steps: number
  num_frames: number
  height: number
  width: number
}

/** One run of a scheduler with a fake network. */
export interface SchedulerCase {
  name: string
  class_name: string
  steps: number
  eta: number | null
  config: Record<string, unknown>
  timesteps: number[]
  init_noise_sigma: number
  step_seed: number
}

interface Expected {
  prompts: string[]
  schedulers: SchedulerCase[]
  pipelines: PipelineCase[]
}

export const expected = JSON.parse(readFileSync(`${tiny}expected.json`, 'utf8')) as Expected
export const expectedTensors = readSafetensors(`${tiny}expected.safetensors`)

/** ‖actual − wanted‖ / ‖wanted‖ */
export function relativeError(actual: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (actual.length !== wanted.length) return Number.POSITIVE_INFINITY
  let difference = 0
  let size = 0
  for (let i = 0; i < wanted.length; i++) {
    difference += ((actual[i] as number) - (wanted[i] as number)) ** 2
    size += (wanted[i] as number) ** 2
  }
  return Math.sqrt(difference / size)
}
