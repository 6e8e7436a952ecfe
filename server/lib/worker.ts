import { mkdtemp, readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { makeFolder } from './files/folder.js'
import { FolderLock } from './jobs/folder_lock.js'
import { modelSources } from './models.js'
import { defaultLimits, type ServerOptions, type SharedQueue } from './options.js'
import { endKeepers, keepersLoaded, startKeepers } from './work/keepers.js'

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
  /** Resolves when the models are loaded. Rejects with the reason if they cannot be loaded. */
  ready(): Promise<void>
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
  const own = await OwnFolder.make(data)
  const keepers = startKeepers({
    ...{ devices, models: modelSources(models), pixels, workFolder: own.path, logger, place: queue.place },
    ...{ pipeline: options.pipeline, runner: options.runner, ffmpeg: options.ffmpeg },
    ...{ loras: options.loras, cancelGrace: options.cancelGrace },
  })
  const working = await Promise.all(keepers.map((keeper) => queue.jobs.work(keeper)))
  logger.info({ models, devices }, 'worker')
  return {
    ready: () => keepersLoaded(keepers),
    async close(grace) {
      await endKeepers(keepers, working, grace)
      await queue.jobs.close()
      await own.remove()
    },
  }
}

const prefix = 'worker-'

/** A folder for what this worker has not finished. Those of workers that are gone are removed. */
class OwnFolder {
  private constructor(
    readonly path: string,
    readonly lock: FolderLock,
  ) {}

  static async make(data: string): Promise<OwnFolder> {
    await makeFolder(data)
    for (const name of await readdir(data)) {
      if (!name.startsWith(prefix)) continue
      const left = path.join(data, name)
      const lock = await FolderLock.take(left).catch(() => undefined) // its worker lives
      if (lock) await new OwnFolder(left, lock).remove()
    }
    const own = await mkdtemp(path.join(data, prefix))
    const lock = await FolderLock.take(own).catch(() => undefined)
    // Another worker that starts now may have taken the new folder for one that was left.
    return lock ? new OwnFolder(own, lock) : OwnFolder.make(data)
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
    await this.lock.release()
  }
}
