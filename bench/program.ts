/**
 * The measured program. It does what a user's program does, in a process of its own: it makes videos and writes them to
 * files, first cold and then warm. It prints its measurements as JSON: a {@link Measured}.
 *
 *     node build/bench/program.js TASK      TASK: a Task as JSON
 */
import { writeFile } from 'node:fs/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Measured, MeasuredVideo, Task } from './task.js'

const begun = Date.now()
const task = JSON.parse(process.argv[2] as string) as Task
const clock = () => performance.now()
const sinceStart = () => Date.now() - task.started

/** The interval at which the event loop's delay is sampled, in milliseconds. Long enough not to disturb the measurement. */
const interval = 10

let at = clock()
const { TextToVideoPipeline } = await import('torchreel')
const importMs = clock() - at

at = clock()
const { device, dtype, offload, captureGraph, compiledDenoiser, threads, libtorch } = task
const pipeline = await TextToVideoPipeline.fromPretrained(task.model, {
  ...{ device, dtype, offload, captureGraph, compiledDenoiser, threads, libtorch },
  trustGraph: task.trustGraph,
  localFilesOnly: true,
})
const loadMs = clock() - at

const videos: MeasuredVideo[] = []
const peaks: number[] = []
let firstStepMs = 0
for (let run = 0; run <= task.runs; run++) {
  const delay = monitorEventLoopDelay({ resolution: interval })
  const faults = process.resourceUsage().minorPageFault
  delay.enable()
  const started = clock()
  let encoded = started
  let denoised = started
  let decoded = started
  const steps: number[] = []
  // Another prompt each time, because embeddings of known prompts are cached.
  const video = await pipeline.generate(run === 0 ? task.prompt : `${task.prompt}, take ${run}`, {
    ...{ steps: task.steps, frames: task.frames, seed: task.seed, guidanceScale: task.guidanceScale },
    ...(task.width && { width: task.width }),
    ...(task.height && { height: task.height }),
    // The fastest way to a finished file. Later videos are saved afterwards, so that no encoder affects their times.
    ...(run === 0 && { output: { path: task.output, overwrite: true } }),
    onProgress: ({ stage, step, steps: of }) => {
      const now = clock()
      if (stage === 'decode') decoded = now
      if (stage === 'encode' && step === of) encoded = denoised = now
      if (stage !== 'denoise' || step === 0) return
      if (run === 0 && step === 1) firstStepMs = sinceStart()
      steps.push(now - denoised) // the first includes the text's keys and values
      denoised = now
    },
  })
  if (run > 0) await video.save(task.output, { overwrite: true })
  const written = clock()
  const sinceStartMs = sinceStart()
  delay.disable()
  videos.push({
    ...{ encodeMs: encoded - started, steps, decodeMs: decoded - denoised, writeMs: written - decoded },
    loopMs: denoised - encoded,
    sinceStartMs,
    pageFaults: process.resourceUsage().minorPageFault - faults,
    eventLoopDelayMs: {
      p50: delay.percentile(50) / 1e6 - interval,
      p99: delay.percentile(99) / 1e6 - interval,
      max: delay.max / 1e6 - interval,
    },
  })
  peaks.push(process.resourceUsage().maxRSS * 1024)
  if (run === 0 && task.frameFile) await writeFile(task.frameFile, video.data)
}

const memory = pipeline.memory()
const processor = process.cpuUsage()
const measured: Measured = {
  ...{ startMs: begun - task.started, importMs, loadMs, firstStepMs, videos },
  peakBytes: peaks[0] as number,
  deviceBytes: memory.allocator?.reservedBytes ?? null,
  processorMs: (processor.user + processor.system) / 1000,
  versions: `node ${process.versions.node}, libtorch ${pipeline.libtorch}`,
  ...{ device: pipeline.device, dtype: pipeline.dtype },
}
await pipeline.dispose()
console.log(JSON.stringify(measured))
