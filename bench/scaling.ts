import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { BenchModel } from './models.js'
import { torchreel } from './processes.js'
import { digits, megabytes, seconds, table } from './report.js'
import { median } from './statistics.js'
import type { MeasuredVideo, Task } from './task.js'

/** One size of work and its cost. */
export interface Cost {
  readonly frames: number
  /** Width and height in pixels. */
  readonly size: number
  readonly steps: number
  readonly loopMs: number
  readonly decodeMs: number
  readonly teraflop: number
  readonly peakBytes: number
}

type Settings = Omit<Task, 'started' | 'output' | 'model' | 'trustGraph' | 'frames' | 'steps'>

/** Frames, sizes and steps around a middle, each varied alone. */
const works = [
  ...[4, 8, 16].map((frames) => ({ frames, size: 192, steps: 2 })),
  ...[128, 256].map((size) => ({ frames: 8, size, steps: 2 })),
  ...[1, 4].map((steps) => ({ frames: 8, size: 192, steps })),
]

/** Makes warm videos of several sizes, each size in a new process. */
export async function scaling(model: BenchModel, settings: Settings): Promise<Cost[]> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'torchreel-bench-'))
  const costs: Cost[] = []
  try {
    for (const { frames, size, steps } of works) {
      console.error(`${frames} frames of ${size} × ${size}, ${steps} steps`)
      const task = { ...settings, frames, steps, width: size, height: size }
      const measured = await torchreel.measure({
        ...task,
        ...{ model: model.folder, trustGraph: model.trustGraph, output: path.join(scratch, 'video.mp4') },
      })
      const of = (number: (video: MeasuredVideo) => number) => median(measured.videos.slice(1).map(number))
      costs.push({
        ...{ frames, size, steps },
        loopMs: of((video) => video.loopMs),
        decodeMs: of((video) => video.decodeMs),
        teraflop: (model.counts(task).step.flop * steps) / 1e12,
        peakBytes: measured.peakBytes,
      })
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  return costs
}

export function scalingTable(costs: readonly Cost[]): string {
  return table(
    [
      'frames',
      'size',
      'steps',
      'TFLOP of the loop',
      'loop',
      'loop per TFLOP',
      'decode per frame',
      'peak memory',
    ],
    costs.map((cost) => [
      String(cost.frames),
      `${cost.size} × ${cost.size}`,
      String(cost.steps),
      digits(cost.teraflop),
      seconds(cost.loopMs),
      seconds(cost.loopMs / cost.teraflop),
      seconds(cost.decodeMs / cost.frames),
      megabytes(cost.peakBytes),
    ]),
  )
}
