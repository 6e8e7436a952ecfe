import { randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync, rmSync } from 'node:fs'
import { link, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import path from 'node:path'

/** Who holds a folder. A process number is only unique with its start time, and within a machine's or container's processes. */
interface Holder {
  readonly pid: number
  readonly start: string
  readonly place: string
}

const touchEvery = 5_000
/** A holder that this process cannot look at, as in another container, is gone when its lock is older than this. */
const staleAfter = 30_000

/** Keeps a folder for one server. Released by `release`, or by the death of the process. */
export class FolderLock {
  readonly #file: string
  readonly #timer: NodeJS.Timeout
  readonly #onExit = () => rmSync(this.#file, { force: true })

  private constructor(file: string) {
    this.#file = file
    this.#timer = setInterval(() => void utimes(file, new Date(), new Date()).catch(() => {}), touchEvery)
    this.#timer.unref()
    process.once('exit', this.#onExit)
  }

  /** @throws Error that names the process that holds the folder */
  static async take(folder: string): Promise<FolderLock> {
    const file = path.join(folder, 'server.lock')
    const own = JSON.stringify(thisProcess())
    for (let tries = 0; tries < 5; tries++) {
      if (await createWith(file, own)) return new FolderLock(file)
      const text = await readFile(file, 'utf8').catch(() => '')
      const holder = readHolder(text)
      if (holder && !(await isGone(holder, file)))
        throw new Error(`${folder} belongs to another server, which runs as process ${holder.pid}`)
      // Moved away instead of removed: if another start was faster, its lock is put back.
      const aside = `${file}-${randomBytes(6).toString('hex')}`
      await rename(file, aside).catch(() => {})
      if ((await readFile(aside, 'utf8').catch(() => text)) !== text) await link(aside, file).catch(() => {})
      await rm(aside, { force: true })
    }
    throw new Error(`${folder} belongs to another server, which is starting`)
  }

  async release(): Promise<void> {
    clearInterval(this.#timer)
    process.off('exit', this.#onExit)
    await rm(this.#file, { force: true })
  }
}

/** Creates a file with its content in one step. False: it exists. */
async function createWith(file: string, content: string): Promise<boolean> {
  const temporary = `${file}-${randomBytes(6).toString('hex')}`
  const handle = await open(temporary, 'wx')
  try {
    await handle.writeFile(content)
    await handle.close()
    await link(temporary, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await rm(temporary, { force: true })
  }
}

function thisProcess(): Holder {
  return { pid: process.pid, start: startTime(process.pid) ?? '', place: place() }
}

/** The machine and its set of process numbers. */
function place(): string {
  return `${hostname()} ${readlinkSync('/proc/self/ns/pid')}`
}

function readHolder(text: string): Holder | undefined {
  try {
    const { pid, start, place } = JSON.parse(text)
    return Number.isSafeInteger(pid) ? { pid, start, place } : undefined
  } catch {
    return undefined
  }
}

async function isGone(holder: Holder, file: string): Promise<boolean> {
  if (holder.place === place()) return startTime(holder.pid) !== holder.start
  const status = await stat(file).catch(() => undefined)
  return status === undefined || Date.now() - status.mtimeMs > staleAfter
}

/** Field 22 of /proc/PID/stat: clock ticks since boot. Undefined: there is no such process, or it is a zombie. */
function startTime(pid: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state, ...fields] = status.slice(status.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' ? undefined : fields[18]
  } catch {
    return undefined
  }
}
