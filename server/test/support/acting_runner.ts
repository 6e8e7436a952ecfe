// A runner without a model: what a job does stands in its prompt, such as "steps 10 ms 20 die 3". Its video is made of its seed.
import { createHash } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import type { Files } from '#server/files/files.js'
import type { Job, Made } from '#server/jobs/job.js'
import { JobFailed, type RunningJob, type ServedModel } from '#server/jobs/jobs.js'

export interface Act {
  /** How many, and how long each takes. */
  steps: number
  ms: number
  /** Its process dies at this step: in the first attempt, or in each. */
  die: number
  diealways: number
  /** Fails at this step. */
  fail: number
  /** Does not listen to a cancel. */
  deaf: number
  /** Kills the server when all files are in place, and before it says so. */
  killserver: number
  /** Writes the video, and no other file. */
  bare: number
  /** Takes this long between its files and its end. */
  linger: number
}

export const videoOf = (seed: number): Buffer =>
  Buffer.concat(Array.from({ length: 200 }, (_, i) => createHash('sha512').update(`${seed} ${i}`).digest()))

export function actOf(prompt: string): Act {
  const words = [...prompt.matchAll(/(\w+) (\d+)/g)].map(([, name, value]) => [name, Number(value)])
  const none = { die: 0, diealways: 0, fail: 0, deaf: 0, killserver: 0, bare: 0, linger: 0 }
  return { steps: 1, ms: 0, ...none, ...Object.fromEntries(words) }
}

export const facts: ServedModel['facts'] = {
  family: 'modelscope',
  refusedOptions: {},
  defaults: { steps: 25, frames: 16, fps: 8, guidanceScale: 3, videoGuidanceScale: 3, strength: 0.6 },
  size: { width: 64, height: 64 },
  ...{ sizeMultiple: 8, frameMultiple: 1, vaeScale: 8, tileSize: 64 },
  ...{ latentChannels: 8, textLayers: 2, textSize: 96 },
}

export const served: ServedModel = { id: 'shapes', facts, device: 'cpu', dtype: 'float32' }

export function actor(files: Files): (job: Job, on: RunningJob) => Promise<Made> {
  return async ({ id, request, attempt }, on) => {
    const act = actOf(request.prompt)
    on.progress({ stage: 'denoise', step: 0, steps: act.steps, etaMs: undefined })
    for (let step = 1; step <= act.steps; step++) {
      if (step === act.diealways || (step === act.die && attempt === 1)) process.kill(process.pid, 'SIGKILL')
      if (step === act.fail) throw new JobFailed('ERR_NUMERIC', 'it became NaN')
      await wait(act.ms, undefined, act.deaf ? {} : { signal: on.signal })
      if (!act.deaf) on.signal.throwIfAborted()
      on.progress({ stage: 'denoise', step, steps: act.steps, etaMs: (act.steps - step) * act.ms })
      if (act.bare) continue
      await files.put(id, 'preview.png', Buffer.from(`preview ${step}`))
      on.preview()
    }
    const video = videoOf(request.options.seed)
    const { frames, width, height, fps, steps } = request.fitted
    const made = {
      frames,
      width,
      height,
      fps,
      steps,
      timings: { total: act.ms * act.steps },
      warnings: [],
      bytes: video.length,
    }
    if (act.bare) {
      await files.put(id, 'video.mp4', video)
      return made
    }
    await files.put(id, 'thumbnail.png', Buffer.from('thumbnail'))
    await files.put(id, 'spritesheet.png', Buffer.from('spritesheet'))
    await files.put(id, 'video.mp4', video)
    await files.put(id, 'result.json', Buffer.from(JSON.stringify(made)))
    if (act.killserver) process.kill(process.ppid, 'SIGKILL')
    await wait(act.linger)
    return made
  }
}

/** For the process that holds the pipelines: there are none. */
export async function loadRunner({ files }: { files: Files }) {
  if (process.env.TORCHREEL_TEST_START === 'die') {
    process.stderr.write('no libtorch for you\n')
    process.exit(1)
  }
  return { models: [served], run: actor(files) }
}
