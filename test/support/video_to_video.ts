import { readFileSync } from 'node:fs'
import type { GenerateOptions } from 'torchreel'
import { repository } from './fixtures.js'
import { readSafetensors } from './safetensors_file.js'

/** A run of the reference, and torchreel's options for it. */
type Run = Pick<
  GenerateOptions,
  'scheduler' | 'steps' | 'strength' | 'eta' | 'guidanceScale' | 'negativePrompt'
> & {
  name: string
  seed: number
  tileSize?: number
}

interface TilingRun {
  name: string
  width: number
  height: number
  frames: number
  steps: number
  seed: number
  tileSize: number
}

/** The reference's results for a small video, and for tiles. */
export function readFixtures() {
  const file = `${repository}test/fixtures/video_to_video`
  const { prompt, video, tiling } = JSON.parse(readFileSync(`${file}.json`, 'utf8')) as {
    prompt: string
    video: Run[]
    tiling: { prompt: string; runs: TilingRun[] }
  }
  return { prompt, runs: video, tiling, tensors: readSafetensors(`${file}.safetensors`) }
}
