import path from 'node:path'
import type { Logger } from 'pino'
import { makeFolder } from './files/folder.js'
import { type FilesPlace, openFiles } from './files/place.js'
import { openBull } from './jobs/bull/bull.js'
import type { ServerLimits, SharedQueue } from './options.js'

export interface SharedQueueOptions {
  /** The address of Redis: `redis://…` or `rediss://…`. */
  readonly redis: string
  /** A folder that all machines share. */
  readonly files?: string | undefined
  /** A bucket, instead: `https://HOST/BUCKET`. */
  readonly s3?: string | undefined
  /** Answer with addresses of the bucket, which are valid for so many seconds, instead of passing the bytes on. */
  readonly linkSeconds?: number | undefined
  readonly keepDays?: number | undefined
  /** For a worker: milliseconds without a sign of life after which another one takes a job over. @defaultValue a minute */
  readonly lockFor?: number | undefined
  readonly limits: Pick<ServerLimits, 'waiting' | 'runMs'>
  readonly logger: Logger
}

/**
 * Opens the queue and the files that many machines share.
 *
 * @throws Error if Redis or the files cannot be reached, or if both or none of `files` and `s3` are given
 */
export async function openSharedQueue({
  redis,
  files: folder,
  s3,
  linkSeconds,
  keepDays,
  lockFor,
  limits,
  logger,
}: SharedQueueOptions): Promise<SharedQueue> {
  if ((folder === undefined) === (s3 === undefined))
    throw new Error(
      'with --redis, say where the videos go: --files FOLDER, which all machines share, or --s3 URL',
    )
  const place: FilesPlace =
    s3 === undefined ? { kind: 'folder', folder: path.resolve(folder as string) } : { kind: 's3', url: s3 }
  if (place.kind === 'folder') await makeFolder(place.folder)
  const files = openFiles(place)
  await files.ready()
  const jobs = await openBull({
    ...{ url: redis, files, logger, maxWaiting: limits.waiting, maxRunMs: limits.runMs, lockFor },
    ...(keepDays !== undefined && { keepMs: keepDays * 24 * 3_600_000 }),
  })
  return { jobs, files, place, ...(linkSeconds !== undefined && { linkSeconds }) }
}
