import type { Logger } from 'pino'
import type { FilesPlace } from '../files/place.js'
import type { Working } from '../jobs/jobs.js'
import { Keeper } from './keeper.js'
import type { ModelSource } from './run_job.js'

export interface KeepersOptions {
  /** One process with all models for each. */
  readonly devices: readonly string[]
  readonly models: readonly ModelSource[]
  readonly pipeline?: Readonly<Record<string, unknown>> | undefined
  /** Frames × width × height of a video. */
  readonly pixels: number
  readonly place: FilesPlace
  readonly workFolder: string
  readonly runner?: string | undefined
  readonly ffmpeg?: string | undefined
  readonly loras?: string | undefined
  readonly cancelGrace?: number | undefined
  readonly logger: Logger
}

/** Starts the processes that hold the pipelines. */
export function startKeepers(options: KeepersOptions): Keeper[] {
  const { devices, models, pipeline, pixels, place, workFolder, ffmpeg, loras, logger } = options
  const { runner = new URL('./run_job.js', import.meta.url).href, cancelGrace = 10_000 } = options
  return devices.map(
    (device) =>
      new Keeper({
        load: {
          ...{ device, models, place, runner, workFolder },
          // The size of a video to start from is known to the pipeline only.
          pipeline: { ...pipeline, limits: { pixels } },
          ...(ffmpeg !== undefined && { ffmpeg }),
          ...(loras !== undefined && { loraFolder: loras }),
        },
        ...{ cancelGrace, logger },
      }),
  )
}

/** Resolves when all have loaded their models. Rejects with the reason if one cannot load them. */
export async function keepersLoaded(keepers: readonly Keeper[]): Promise<void> {
  await Promise.all(keepers.map(({ loaded }) => loaded))
}

/** Ends the taking of jobs, and then the processes: those that hold a job after the grace (ms), too. */
export async function endKeepers(
  keepers: readonly Keeper[],
  working: readonly Working[],
  grace: number,
): Promise<void> {
  const closeAll = () => Promise.all(keepers.map((keeper) => keeper.close()))
  const late = setTimeout(closeAll, grace + 100)
  await Promise.all(working.map((one) => one.close(grace)))
  clearTimeout(late)
  await closeAll()
}
