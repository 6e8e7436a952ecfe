// A worker in a process of its own: node bull_worker.js URL FOLDER LOCK_MS STEPS STEP_MS. A job's video is made of its seed.
import { setTimeout as wait } from 'node:timers/promises'
import pino from 'pino'
import { FolderFiles } from '#server/files/folder.js'
import { openBull } from '#server/jobs/bull/bull.js'
import type { Job, Made } from '#server/jobs/job.js'
import type { RunningJob, ServedModel } from '#server/jobs/jobs.js'
import { videoOf } from './video_of.js'

const [url = '', folder = '', lockFor, steps, stepMs] = process.argv.slice(2)
const files = new FolderFiles(folder)
const jobs = await openBull({ url, files, logger: pino({ level: 'silent' }), lockFor: Number(lockFor) })

async function run({ id, request, attempt }: Job, { signal, progress }: RunningJob): Promise<Made> {
  process.send?.({ began: id, attempt })
  try {
    for (let step = 1; step <= Number(steps); step++) {
      await wait(Number(stepMs), undefined, { signal })
      progress({ stage: 'denoise', step, steps: Number(steps), etaMs: undefined })
    }
  } catch (error) {
    process.send?.({ aborted: id })
    throw error
  }
  const video = videoOf(request.options.seed)
  await files.put(id, 'video.mp4', video)
  process.send?.({ made: id })
  const facts = { width: 1, height: 1, frames: 1, fps: 1, steps: Number(steps), timings: {}, warnings: [] }
  return { ...facts, bytes: video.length }
}

const model = { id: 'shapes', facts: {}, device: 'cpu', dtype: 'float32' } as unknown as ServedModel
await jobs.work({
  ...{ device: 'cpu', models: ['shapes'], isUp: true, trouble: undefined, run },
  available: async () => [model],
})
process.send?.({ ready: true })
