import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { allFiles, filesAfter } from '../files/files.js'
import { syncFolder, writeWhole } from '../files/folder.js'
import { idPattern, isEnded, type Job, type Made, states } from './job.js'

// The records of the embedded queue: FOLDER/ID/job.json, beside the job's files. A job and its files are removed together.

const recordName = 'job.json'
const trashPrefix = '.trash-'

export async function writeRecord(folder: string, job: Job): Promise<void> {
  const { progress: _, position: __, ...kept } = job
  await writeWhole(path.join(folder, job.id), recordName, `${JSON.stringify(kept)}\n`)
}

/** The first record of a job. */
export async function createRecord(folder: string, job: Job): Promise<void> {
  await mkdir(path.join(folder, job.id), { recursive: true })
  await writeRecord(folder, job)
  await syncFolder(folder)
}

/** Removes a job and its files in one step, as others see it. */
export async function removeRecord(folder: string, id: string): Promise<void> {
  const trash = path.join(folder, trashPrefix + id)
  await rename(path.join(folder, id), trash).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  await syncFolder(folder)
  await rm(trash, { recursive: true, force: true })
}

export interface ReadRecords {
  readonly jobs: Job[]
  /** Folders whose record cannot be read, and why. They are left as they are. */
  readonly broken: readonly { readonly folder: string; readonly why: string }[]
}

/** Reads all records, and removes what the end of a process left half done. */
export async function readRecords(folder: string): Promise<ReadRecords> {
  const jobs: Job[] = []
  const broken: { folder: string; why: string }[] = []
  for (const name of (await readdir(folder)).sort()) {
    const place = path.join(folder, name)
    if (name.startsWith(trashPrefix) || name.startsWith('.probe-')) {
      await rm(place, { recursive: true, force: true })
      continue
    }
    if (!idPattern.test(name)) continue
    const text = await readFile(path.join(place, recordName), 'utf8').catch(() => undefined)
    // Never accepted: its files came, and then the server ended.
    if (text === undefined) await rm(place, { recursive: true, force: true })
    else {
      const job = parseRecord(text, name)
      if (typeof job === 'string') broken.push({ folder: place, why: job })
      else {
        jobs.push(job)
        await removeLeftOver(place, job)
      }
    }
  }
  return { jobs, broken }
}

/** What a worker wrote after all files of a video; undefined: it did not come so far. */
export async function readResult(folder: string, id: string): Promise<Made | undefined> {
  try {
    return JSON.parse(await readFile(path.join(folder, id, 'result.json'), 'utf8'))
  } catch {
    return undefined
  }
}

/** Removes files that were being written, and those that the end of a job leaves to be removed. */
async function removeLeftOver(folder: string, job: Job): Promise<void> {
  const kept: readonly string[] = isEnded(job)
    ? [recordName, ...filesAfter(job.state)]
    : [recordName, ...allFiles]
  for (const name of await readdir(folder)) {
    if (!kept.includes(name)) await rm(path.join(folder, name), { recursive: true, force: true })
  }
}

/** The job, or why it is none. */
function parseRecord(text: string, id: string): Job | string {
  let job: Job
  try {
    job = JSON.parse(text)
  } catch (error) {
    return (error as Error).message
  }
  if (job?.id !== id) return `its id is not ${id}`
  if (!states.includes(job.state)) return `it has no known state`
  if (typeof job.request?.prompt !== 'string' || typeof job.owner !== 'string') return 'it has no request'
  return job
}
