import { mkdir, readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { modelSources } from './models.js'
import { defaultLimits, type ServerOptions, type SharedQueue } from './options.js'
import { startKeepers } from './work/keepers.js'

export interface WorkerOptions
  extends Pick<
    ServerOptions,
    'models' | 'devices' | 'pipeline' | 'ffmpeg' | 'loras' | 'cancelGrace' | 'runner'
  > {
  readonly queue: SharedQueue
  /** Frames × width × height of a video. @defaultValue 2^24 */
  readonly pixels?: number | undefined
  /** The folder for files that are not finished. */
  readonly data: string
  readonly logger: NonNullable<ServerOptions['logger']>
}

export interface RunningWorker {
  /** Takes no more jobs. A running one may end within the grace (ms); else it is put back for another worker. */
  close(grace: number): Promise<void>
}

/** Takes the jobs of a queue that other servers fill: one process with all models for each device. */
export async function createWorker(options: WorkerOptions): Promise<RunningWorker> {
  const {
    queue,
    data,
    logger,
    devices = ['auto'],
    models = ['shapes'],
    pixels = defaultLimits.pixels,
  } = options
  const workFolder = await ownFolder(data)
  const keepers = startKeepers({
    ...{ devices, models: modelSources(models), pixels, workFolder, logger, place: queue.place },
    ...{ pipeline: options.pipeline, runner: options.runner, ffmpeg: options.ffmpeg },
    ...{ loras: options.loras, cancelGrace: options.cancelGrace },
  })
  const working = await Promise.all(keepers.map((keeper) => queue.jobs.work(keeper)))
  logger.info({ models, devices }, 'worker')
  return {
    async close(grace) {
      const killed = setTimeout(() => keepers.map((keeper) => keeper.close()), grace + 100)
      await Promise.all(working.map((one) => one.close(grace)))
      clearTimeout(killed)
      await Promise.all(keepers.map((keeper) => keeper.close()))
      await queue.jobs.close()
      await rm(workFolder, { recursive: true, force: true })
    },
  }
}

/** A folder for what this worker has not finished: DATA/worker-PID. Those of workers that are gone are removed. */
async function ownFolder(data: string): Promise<string> {
  await mkdir(data, { recursive: true, mode: 0o700 })
  for (const name of await readdir(data)) {
    const pid = Number(/^worker-(\d+)$/.exec(name)?.[1] ?? Number.NaN)
    if (pid > 0 && !isAlive(pid)) await rm(path.join(data, name), { recursive: true, force: true })
  }
  const folder = path.join(data, `worker-${process.pid}`)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  return folder
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
