import { availableParallelism } from 'node:os'
import path from 'node:path'
import type { NativeThreads } from '../addon/interface.js'
import { type ProcessorsUse, ProcessorUse } from './processor_use.js'
import { readSystemFile } from './system_file.js'

/** How many threads an operation on the CPU uses, and why. */
export interface ThreadChoice {
  readonly threads: number
  readonly reason: string
  /** Whether fewer are used while other programs keep the processors busy: not if somebody chose the number. */
  readonly givesWay: boolean
}

/**
 * The threads of a pipeline. libtorch gives each thread an equal part, and waits for the slowest. A thread that shares
 * its processor with a busy program makes all others wait. So libtorch gets one thread less for each processor that
 * others keep busy, but at least half of the threads: if all processors are busy, more threads get a larger share.
 * torchreel's own operators keep all threads, and then divide their work into small pieces. The pipeline's thread also
 * has the work between the operators, so it gets a processor of its own if one is free.
 */
export class Threads {
  readonly #most: number
  readonly #mayVary: boolean
  readonly #use: ProcessorUse | undefined
  #now: NativeThreads

  /** @param mayVary whether the model's numbers allow that libtorch takes fewer threads */
  constructor({ threads, givesWay }: ThreadChoice, mayVary: boolean, use?: ProcessorUse) {
    this.#most = threads
    this.#mayVary = mayVary
    this.#now = { threads, team: 0, apart: false }
    this.#use = givesWay ? (use ?? new ProcessorUse()) : undefined
  }

  /** How many threads to use now. */
  look(): NativeThreads {
    const use = this.#use?.look()
    if (use) {
      const most = this.#most
      const free = use.processors - Math.round(wanted(use, most))
      const fewer = Math.min(most, Math.max(Math.ceil(most / 2), free))
      this.#now = { threads: this.#mayVary ? fewer : most, team: free < most ? most : 0, apart: free > 0 }
    }
    return this.#now
  }
}

/** How many processors others would keep busy without our threads. If none is idle, each thread gets an equal part of them. */
function wanted({ processors, busy, own }: ProcessorsUse, threads: number): number {
  const contended = own > 0.5 && processors - own - busy < 0.5
  if (!contended) return busy
  return Math.min(processors, Math.max(busy, (busy * threads) / Math.max(processors - busy, 0.1)))
}

/**
 * Chooses the threads of an operation: `option`, else OMP_NUM_THREADS, else as many as this process may keep busy.
 * libtorch alone starts one for each visible processor. More threads than a quota allows wait for each other while the
 * kernel holds some of them back.
 */
export function chooseThreads(option?: number): ThreadChoice {
  if (option) return { threads: option, reason: 'the option threads', givesWay: false }
  const wanted = Number.parseInt(process.env.OMP_NUM_THREADS ?? '', 10)
  if (wanted > 0) return { threads: wanted, reason: 'OMP_NUM_THREADS', givesWay: false }
  const processors = availableParallelism()
  const quota = readCpuQuota()
  if (quota !== undefined && quota.processors < processors) {
    const threads = Math.max(1, Math.floor(quota.processors))
    const most = Number(quota.processors.toFixed(2))
    return {
      threads,
      reason: `the quota of ${most} ${most === 1 ? 'processor' : 'processors'} in ${quota.file}`,
      givesWay: true,
    }
  }
  return {
    threads: processors,
    reason: `the ${processors === 1 ? 'one processor' : `${processors} processors`} that this process may use`,
    givesWay: true,
  }
}

export interface CpuQuota {
  /** Processor seconds a second. */
  readonly processors: number
  /** The file that says so. */
  readonly file: string
}

/**
 * The smallest CPU quota of this process's control groups and all groups above them; undefined: none.
 *
 * @param root the folder in which proc and sys lie
 */
export function readCpuQuota(root = '/'): CpuQuota | undefined {
  const groups = readSystemFile(path.join(root, 'proc/self/cgroup')) ?? ''
  const quotas: CpuQuota[] = []
  // A line reads `0::/a/b` in version 2, `4:cpu,cpuacct:/a/b` in version 1.
  for (const [, controllers, group] of groups.matchAll(/^\d+:(.*?):(\/.*)$/gm) as Iterable<
    [string, string, string]
  >) {
    if (controllers === '') {
      quotas.push(...quotasAbove(path.join(root, 'sys/fs/cgroup'), group, 'cpu.max', parseCpuMax))
      quotas.push(...quotasAbove(path.join(root, 'sys/fs/cgroup/unified'), group, 'cpu.max', parseCpuMax))
    } else if (controllers.split(',').includes('cpu')) {
      for (const mount of new Set([controllers, 'cpu', 'cpu,cpuacct'])) {
        const folder = path.join(root, 'sys/fs/cgroup', mount)
        quotas.push(...quotasAbove(folder, group, 'cpu.cfs_quota_us', parseCfsQuota))
      }
    }
  }
  return quotas.sort((one, other) => one.processors - other.processors)[0]
}

/** The quotas of a group and of those above it. In a container only the mount's root may be there, which is the group. */
function quotasAbove(
  mount: string,
  group: string,
  name: string,
  parse: (text: string, folder: string) => number | undefined,
): CpuQuota[] {
  const quotas: CpuQuota[] = []
  for (let inner = group; ; inner = path.dirname(inner)) {
    const folder = path.join(mount, inner)
    const file = path.join(folder, name)
    const text = readSystemFile(file)
    const processors = text === undefined ? undefined : parse(text, folder)
    if (processors !== undefined) quotas.push({ processors, file })
    if (inner === '/' || inner === '.') return quotas
  }
}

/** `100000 100000`: microseconds of processor time in so many microseconds; `max`: no limit. */
function parseCpuMax(text: string): number | undefined {
  const [quota, period] = text.trim().split(' ').map(Number)
  return quotient(quota, period)
}

/** The file of version 1 has the quota alone; −1: no limit. The period stands beside it. */
function parseCfsQuota(text: string, folder: string): number | undefined {
  return quotient(Number(text), Number(readSystemFile(path.join(folder, 'cpu.cfs_period_us'))))
}

function quotient(quota = Number.NaN, period = Number.NaN): number | undefined {
  return quota > 0 && period > 0 ? quota / period : undefined
}
