import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { isEnded, type Job, states } from '../jobs/job.js'
import type { Jobs, Worker } from '../jobs/jobs.js'

const seconds = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600]

/** The server's measurements, for Prometheus. Labels are never ids or prompts. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #requests = new Counter({
    ...this.#named('http_requests_total', 'Answered requests'),
    labelNames: ['route', 'status'],
  })
  readonly #requestSeconds = new Histogram({
    ...this.#named('http_seconds', 'Time until an answer began'),
    labelNames: ['route'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
  })
  readonly #ended = new Counter({
    ...this.#named('jobs_ended_total', 'Jobs that ended'),
    labelNames: ['result'],
  })
  readonly #wait = new Histogram({
    ...this.#named('job_wait_seconds', 'Time that jobs waited'),
    buckets: seconds,
  })
  readonly #stages = new Histogram({
    ...this.#named('stage_seconds', 'Time of the stages of jobs'),
    labelNames: ['stage'],
    buckets: seconds,
  })
  readonly #delay = monitorEventLoopDelay({ resolution: 10 })
  readonly #stop: () => void

  constructor(jobs: Jobs, workers: readonly Worker[], streams: () => number) {
    const gauge = (
      name: string,
      help: string,
      labelNames: string[],
      collect: (set: Gauge) => Promise<void> | void,
    ) =>
      new Gauge({
        ...this.#named(name, help),
        labelNames,
        collect: function () {
          return collect(this)
        },
      })
    gauge('jobs', 'Unfinished jobs', ['state'], async (set) => {
      const unfinished = await jobs.unfinished()
      for (const state of states.filter((one) => !isEnded({ state: one })))
        set.set({ state }, unfinished.filter((job) => job.state === state).length)
    })
    gauge('worker_up', 'Whether a worker can take jobs', ['device'], (set) => {
      for (const { device, isUp } of workers) set.set({ device }, isUp ? 1 : 0)
    })
    gauge('worker_restarts', 'New starts of workers', ['device'], (set) => {
      for (const worker of workers) set.set({ device: worker.device }, worker.restarts ?? 0)
    })
    gauge('sse_clients', 'Open streams of events', [], (set) => set.set(streams()))
    gauge('store_bytes', 'Bytes of the kept videos', [], async (set) =>
      set.set((await jobs.counts()).bytes ?? 0),
    )
    gauge('memory_bytes', 'Memory of the server', ['kind'], (set) => {
      const { rss, heapUsed, external } = process.memoryUsage()
      for (const [kind, bytes] of Object.entries({ rss, heap: heapUsed, external })) set.set({ kind }, bytes)
    })
    gauge(
      'event_loop_delay_seconds',
      'Delay of the event loop since the last scrape',
      ['quantile'],
      (set) => {
        for (const quantile of [50, 99])
          set.set({ quantile: String(quantile / 100) }, this.#delay.percentile(quantile) / 1e9)
        this.#delay.reset()
      },
    )
    this.#delay.enable()
    this.#stop = jobs.watch((change) => {
      if (change.type === 'job' && isEnded(change.job)) this.#jobEnded(change.job)
    })
  }

  request(route: string, status: number, taken: number): void {
    this.#requests.inc({ route, status })
    this.#requestSeconds.observe({ route }, taken)
  }

  /** The text, and its media type. */
  async text(): Promise<{ text: string; type: string }> {
    return { text: await this.#registry.metrics(), type: this.#registry.contentType }
  }

  close(): void {
    this.#stop()
    this.#delay.disable()
  }

  #jobEnded({ state, waitedMs, made }: Job): void {
    this.#ended.inc({ result: state })
    if (waitedMs !== undefined) this.#wait.observe(waitedMs / 1000)
    for (const [stage, ms] of Object.entries(made?.timings ?? {})) this.#stages.observe({ stage }, ms / 1000)
  }

  #named(name: string, help: string) {
    return { name: `torchreel_${name}`, help, registers: [this.#registry] }
  }
}
