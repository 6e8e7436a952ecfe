import { getPriority } from 'node:os'
import path from 'node:path'
import { readSystemFile } from './system_file.js'

/** How busy the processors were in a while. */
export interface ProcessorsUse {
  /** The processors that this process may use. */
  readonly processors: number
  /** How many of them other programs kept busy, on average. */
  readonly busy: number
  /** How many of them this process kept busy, on average. */
  readonly own: number
}

/** Sums since the system or the process started. */
interface Sums {
  /** Milliseconds. */
  readonly at: number
  readonly processors: number
  /** Seconds of all programs on these processors, and of this process alone. */
  readonly all: number
  readonly own: number
}

/** The system counts in ticks of 10 ms, so that a shorter while says little. After a longer one, the mean is old. */
const shortest = 100
const longest = 10_000

/** Looks at how busy other programs keep the processors. Only Linux tells. */
export class ProcessorUse {
  readonly #root: string
  #last: Sums | undefined

  /** @param root the folder in which proc lies */
  constructor(root = '/') {
    this.#root = root
    this.#last = this.#sums()
  }

  /** Since the last look; undefined if that is too short or too long ago, or if the system does not tell. */
  look(): ProcessorsUse | undefined {
    const last = this.#last
    if (last && performance.now() - last.at < shortest) return undefined
    const now = this.#sums()
    this.#last = now
    if (!last || !now || now.at - last.at > longest) return undefined
    const seconds = (now.at - last.at) / 1000
    const own = now.own - last.own
    const others = Math.max(0, now.all - last.all - own)
    return { processors: now.processors, busy: others / seconds, own: own / seconds }
  }

  #sums(): Sums | undefined {
    const status = readSystemFile(path.join(this.#root, 'proc/self/status'))
    const stat = readSystemFile(path.join(this.#root, 'proc/stat'))
    const allowed = /^Cpus_allowed_list:\s*(.*)$/m.exec(status ?? '')?.[1]
    if (!stat || !allowed) return undefined
    const processors = parseList(allowed)
    // Programs of low priority give way by themselves, unless this one has a low priority, too.
    const withNice = getPriority() > 0
    let ticks = 0
    for (const [, processor, times] of stat.matchAll(/^cpu(\d+) (.*)$/gm)) {
      if (!processors.has(Number(processor))) continue
      const [user = 0, nice = 0, system = 0, , , interrupt = 0, soft = 0, stolen = 0] = (times as string)
        .split(' ')
        .map(Number)
      ticks += user + system + interrupt + soft + stolen + (withNice ? nice : 0)
    }
    const { user, system } = process.cpuUsage()
    return {
      at: performance.now(),
      processors: processors.size,
      all: ticks / 100,
      own: (user + system) / 1e6,
    }
  }
}

/** `0-3,8` */
function parseList(list: string): Set<number> {
  const ranges = list.split(',').map((range) => range.split('-').map(Number))
  return new Set(
    ranges.flatMap(([first = 0, last = first]) =>
      Array.from({ length: last - first + 1 }, (_, i) => first + i),
    ),
  )
}
