// A server that tells of itself: node measured_server.js DATA [free]. With `free`, its videos cost nothing.
import { readdirSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import pino from 'pino'
import { createServer } from 'torchreel-server'

const [data = '', kind] = process.argv.slice(2)
const limits = { streams: 500, perMinute: 1e9, unfinished: 1e9 }
const runner = new URL('./free_runner.js', import.meta.url).href
const server = await createServer({
  ...{ data, limits, port: 0, logger: pino({ level: 'silent' }) },
  ...(kind === 'free' && { runner }),
})
const interval = 5
const delay = monitorEventLoopDelay({ resolution: interval })
delay.enable()

export interface Told {
  readonly heapBytes: number
  readonly residentBytes: number
  readonly descriptors: number
  /** What keeps the process alive: sockets, timers and so on. */
  readonly resources: number
  /** Milliseconds since the last question: 99 of 100 were shorter, and the longest. */
  readonly delayP99: number
  readonly delayMost: number
}

process.on('message', (what) => {
  if (what === 'end') void server.close().then(() => process.exit())
  else {
    globalThis.gc?.()
    process.send?.({
      heapBytes: process.memoryUsage().heapUsed,
      residentBytes: process.memoryUsage().rss,
      descriptors: readdirSync('/proc/self/fd').length,
      resources: process.getActiveResourcesInfo().length,
      delayP99: delay.percentile(99) / 1e6 - interval,
      delayMost: delay.max / 1e6 - interval,
    } satisfies Told)
    delay.reset()
  }
})
process.send?.(await server.listen())
