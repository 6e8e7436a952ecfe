import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { busyProcesses } from './busy_processes.js'
import type { BenchModel } from './models.js'
import { peer, torchreel } from './processes.js'
import { digits, seconds, table } from './report.js'
import { median, type Spread, spread } from './statistics.js'
import type { Task } from './task.js'

/** One contestant's denoising loop beside some busy processes. */
export interface Beside {
  readonly name: string
  readonly busy: number
  readonly loop: Spread
  /** The loop's time divided by that without busy processes. */
  readonly slower: number
  /** The same, if every thread got an equal share of the processors and nothing else were lost. */
  readonly share: number
}

type Settings = Omit<Task, 'started' | 'output' | 'model' | 'trustGraph'>

const counts = [0, 1, 2]

/** Measures the warm loop of torchreel and a peer beside busy processes. They take turns within each round. */
export async function busy(
  model: BenchModel,
  settings: Settings,
  python: string | undefined,
  rounds: number,
): Promise<Beside[]> {
  const contestants = [torchreel, ...(python ? [peer(python, false)] : [])]
  const loops = new Map<string, number[]>()
  const key = (name: string, count: number) => `${name} ${count}`
  const scratch = await mkdtemp(path.join(tmpdir(), 'torchreel-bench-'))
  const task = {
    ...{ ...settings, model: model.folder, trustGraph: model.trustGraph },
    output: path.join(scratch, 'video.mp4'),
  }
  try {
    for (let round = 0; round < rounds; round++)
      for (const count of counts)
        for (const { name, measure } of contestants) {
          console.error(`${name} beside ${count} busy processes, round ${round + 1} of ${rounds}`)
          await using _ = await busyProcesses(count)
          const { videos } = await measure(task)
          const warm = videos.slice(1).map((video) => video.loopMs)
          loops.set(key(name, count), [...(loops.get(key(name, count)) ?? []), ...warm])
        }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  const threads = settings.threads ?? availableParallelism()
  return contestants.flatMap(({ name }) => {
    const alone = median(loops.get(key(name, 0)) as number[])
    return counts.map((count) => {
      const loop = spread(loops.get(key(name, count)) as number[])
      const share = fairSlowdown(threads, count, availableParallelism())
      return { name, busy: count, loop, slower: loop.median / alone, share }
    })
  })
}

/** How much slower a program of some threads gets beside busy processes of one thread each, if all threads get the same. */
export function fairSlowdown(threads: number, busy: number, processors: number): number {
  return Math.max(1, (threads + busy) / processors) / Math.max(1, threads / processors)
}

export function busyTable(results: readonly Beside[]): string {
  return table(
    ['', 'busy processes', 'loop', 'slower', 'by its share', 'over its share'],
    results.map(({ name, busy, loop, slower, share }) => [
      ...[name, String(busy), `${seconds(loop.median)} (${seconds(loop.lowest)} – ${seconds(loop.highest)})`],
      ...[`${digits(slower)} ×`, `${digits(share)} ×`, `${Math.round(100 * (slower / share - 1))}%`],
    ]),
  )
}
