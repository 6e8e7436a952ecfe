// Measures one video as a user's program would make it: times by stage, peak memory, and how late the event loop ran.
//   npm run bench -- --model FOLDER [--steps 1 --frames 16 --width 256 --height 256 --runs 1 --dtype float32 …]
// Prints JSON. The first run is as cold as it comes; further runs reuse the pipeline.
import { cpus, totalmem } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { type PipelineOptions, TextToVideoPipeline } from 'torchreel'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    prompt: { type: 'string', default: 'Spiderman is surfing' },
    steps: { type: 'string', default: '25' },
    frames: { type: 'string', default: '16' },
    width: { type: 'string' },
    height: { type: 'string' },
    seed: { type: 'string', default: '0' },
    runs: { type: 'string', default: '1' },
    device: { type: 'string' },
    dtype: { type: 'string' },
    offload: { type: 'string' },
    threads: { type: 'string' },
  },
})
if (!values.model) throw new Error('--model FOLDER is needed')

const megabytes = (bytes: number) => Math.round(bytes / 1e6)
const rounded = (numbers: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, Math.round(value)]))

const { device, dtype, offload, threads } = values
const loading = { device, dtype, offload, threads: threads === undefined ? undefined : Number(threads) }
const started = performance.now()
const pipeline = await TextToVideoPipeline.fromPretrained(values.model, loading as PipelineOptions)
const loadMs = performance.now() - started

const runs = []
for (let run = 0; run < Number(values.runs); run++) {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const video = await pipeline.generate(values.prompt, {
    steps: Number(values.steps),
    frames: Number(values.frames),
    seed: Number(values.seed),
    ...(values.width && { width: Number(values.width) }),
    ...(values.height && { height: Number(values.height) }),
  })
  delay.disable()
  runs.push({
    size: `${video.frameCount} × ${video.width} × ${video.height}`,
    ms: rounded(video.timings ?? {}),
    eventLoopDelayMs: {
      p50: delay.percentile(50) / 1e6,
      p99: delay.percentile(99) / 1e6,
      max: delay.max / 1e6,
    },
  })
}

const result = {
  machine: { processor: cpus()[0]?.model, cores: cpus().length, memoryMB: megabytes(totalmem()) },
  versions: { node: process.version, libtorch: pipeline.libtorch },
  pipeline: { model: pipeline.model, device: pipeline.device, dtype: pipeline.dtype },
  steps: Number(values.steps),
  loadMs: Math.round(loadMs),
  runs,
  // Linux counts the mapped pages of the weights in it.
  peakMemoryMB: megabytes(process.resourceUsage().maxRSS * 1024),
}
console.log(JSON.stringify(result, null, 2))
await pipeline.dispose()
