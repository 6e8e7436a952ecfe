import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Count, Counts } from './flop.js'
import { type Machine, machine, type ProductRate, productRate } from './machine.js'
import type { BenchModel } from './models.js'
import { type Contestant, compiled, type Observed, peer, torchreel, variants } from './processes.js'
import { median, type Spread, spread } from './statistics.js'
import type { MeasuredVideo, Task } from './task.js'

/** The stages of a process's first video, in order. */
export const stages = ['start', 'import', 'load', 'encode', 'denoise', 'decode', 'write'] as const
export type Stage = (typeof stages)[number]

/** The results of one contestant, in milliseconds and bytes. */
export interface Result {
  readonly name: string
  readonly versions: string
  /** The first video of a process, by stage. */
  readonly cold: Readonly<Record<Stage, Spread>>
  /** From the start of the process to the file. */
  readonly startToFile: Spread
  /** Later videos of the process. A call includes everything but writing the file. */
  readonly warm: Readonly<Record<'encode' | 'loop' | 'step' | 'decode' | 'call' | 'write', Spread>>
  readonly firstStep: Spread
  readonly peakBytes: Spread
  readonly deviceBytes: Spread | undefined
  readonly pageFaultsPerStep: Spread
  /** The fraction of processor time that other programs used. A measurement is reliable only if it is near 0. */
  readonly elsewhere: Spread
  readonly eventLoopDelay: { readonly p50: number; readonly p99: number; readonly max: number } | undefined
  /**
   * FLOP/s of the loop divided by the machine's product rate: for the network as defined, and for the work that torchreel does.
   */
  readonly rate: { readonly defined: number; readonly computed: number | undefined }
}

export interface Contest {
  readonly machine: Machine & { readonly product: ProductRate }
  readonly task: Omit<Task, 'started' | 'output' | 'model'> & { readonly model: string }
  readonly flop: Counts
  readonly results: readonly Result[]
  /** Times of each other contestant divided by torchreel's. */
  readonly ratios: readonly {
    readonly peer: string
    readonly loop: number
    readonly call: number
    readonly startToFile: number
    /** torchreel's peak divided by the peer's. */
    readonly peakMemory: number
    /** The largest difference of a pixel's value, out of 255. */
    readonly pixels: number
  }[]
}

/** The contestants, and how often each runs. */
export interface ContestOptions {
  /** A Python with diffusers. Undefined: no peer. */
  readonly peer: string | undefined
  /** The kinds of peers. */
  readonly eager: boolean
  readonly compile: boolean
  /** Names of {@link variants}. */
  readonly variants: readonly string[]
  /** A compiled denoiser, as one more contestant. */
  readonly compiledDenoiser: string | undefined
  /** Processes per contestant. */
  readonly rounds: number
}

/** Makes the same videos with torchreel and its peers, in processes that take turns. */
export async function contest(
  model: BenchModel,
  task: Omit<Task, 'started' | 'output' | 'model' | 'trustGraph'>,
  options: ContestOptions,
): Promise<Contest> {
  const contestants: Contestant[] = [torchreel]
  for (const name of options.variants) {
    const variant = variants[name]
    if (!variant) throw new Error(`unknown variant ${name}; use one of ${Object.keys(variants).join(', ')}`)
    contestants.push(variant)
  }
  if (options.compiledDenoiser) contestants.push(...compiled(options.compiledDenoiser, task.device))
  if (options.peer && options.eager) contestants.push(peer(options.peer, false))
  if (options.peer && options.compile) contestants.push(peer(options.peer, true))

  const product = await productRate(task.device, task.dtype)
  const scratch = await mkdtemp(path.join(tmpdir(), 'torchreel-bench-'))
  const whole = { ...task, model: model.folder, trustGraph: model.trustGraph }
  const frameFile = (index: number) => path.join(scratch, `${index}.rgb`)
  try {
    const measured = contestants.map((): Observed[] => [])
    for (let round = 0; round < options.rounds; round++) {
      for (const [index, contestant] of contestants.entries()) {
        console.error(`${contestant.name}, process ${round + 1} of ${options.rounds}`)
        const output = path.join(scratch, `${index}.mp4`)
        measured[index]?.push(await contestant.measure({ ...whole, output, frameFile: frameFile(index) }))
      }
    }
    const flop = model.counts(task)
    const results = contestants.map(({ name }, index) =>
      summarise(name, measured[index] as Observed[], flop.step, product),
    )
    const [own, ...peers] = results as [Result, ...Result[]]
    const frames = await Promise.all(contestants.map((_, index) => readFile(frameFile(index))))
    return {
      machine: { ...machine(), product },
      task: { ...whole, model: path.basename(model.folder) },
      ...{ flop, results },
      ratios: peers.map((other, index) => ({
        peer: other.name,
        loop: other.warm.loop.median / own.warm.loop.median,
        call: other.warm.call.median / own.warm.call.median,
        startToFile: other.startToFile.median / own.startToFile.median,
        peakMemory: own.peakBytes.median / other.peakBytes.median,
        pixels: largestDifference(frames[0] as Buffer, frames[index + 1] as Buffer),
      })),
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

function summarise(name: string, processes: readonly Observed[], step: Count, product: ProductRate): Result {
  const first = processes[0] as Observed
  const cold = processes.map((process) => process.videos[0] as MeasuredVideo)
  // With --runs 0 there is only the first video.
  const warm = processes.flatMap((process) =>
    process.videos.length > 1 ? process.videos.slice(1) : process.videos,
  )
  const all = <Item>(items: readonly Item[], number: (item: Item) => number) => spread(items.map(number))
  const delays = warm.flatMap((video) => video.eventLoopDelayMs ?? [])
  const stepSeconds = median(warm.map((video) => video.loopMs / video.steps.length)) / 1000
  return {
    ...{ name, versions: first.versions },
    cold: {
      start: all(processes, (process) => process.startMs),
      import: all(processes, (process) => process.importMs),
      load: all(processes, (process) => process.loadMs),
      encode: all(cold, (video) => video.encodeMs),
      denoise: all(cold, (video) => video.loopMs),
      decode: all(cold, (video) => video.decodeMs),
      write: all(cold, (video) => video.writeMs),
    },
    startToFile: all(cold, (video) => video.sinceStartMs),
    warm: {
      encode: all(warm, (video) => video.encodeMs),
      loop: all(warm, (video) => video.loopMs),
      step: spread(warm.flatMap((video) => video.steps)),
      decode: all(warm, (video) => video.decodeMs),
      call: all(warm, (video) => video.encodeMs + video.loopMs + video.decodeMs),
      write: all(warm, (video) => video.writeMs),
    },
    firstStep: all(processes, (process) => process.firstStepMs),
    peakBytes: all(processes, (process) => process.peakBytes),
    deviceBytes:
      first.deviceBytes === null ? undefined : all(processes, (process) => process.deviceBytes ?? 0),
    pageFaultsPerStep: all(warm, (video) => video.pageFaults / video.steps.length),
    elsewhere: all(processes, (process) => process.elsewhere),
    eventLoopDelay:
      delays.length === 0
        ? undefined
        : {
            p50: median(delays.map((delay) => delay.p50)),
            p99: median(delays.map((delay) => delay.p99)),
            max: Math.max(...delays.map((delay) => delay.max)),
          },
    rate: {
      defined: step.flop / stepSeconds / product.median,
      computed: name === torchreel.name ? step.computed / stepSeconds / product.median : undefined,
    },
  }
}

function largestDifference(one: Buffer, other: Buffer): number {
  if (one.length !== other.length) throw new Error(`videos of ${one.length} and ${other.length} bytes`)
  let largest = 0
  for (let at = 0; at < one.length; at++) {
    largest = Math.max(largest, Math.abs((one[at] as number) - (other[at] as number)))
  }
  return largest
}
