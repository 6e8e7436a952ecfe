import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { idPattern } from '../jobs/job.js'
import {
  type ByteRange,
  type FileFacts,
  type FileName,
  type Files,
  fileTypes,
  type OpenedFile,
} from './files.js'

/** Files in a folder of this machine, or one that several machines share: FOLDER/ID/NAME. */
export class FolderFiles implements Files {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  async put(id: string, name: FileName, content: { readonly path: string } | Buffer): Promise<void> {
    const folder = this.#folderOf(id)
    await mkdir(folder, { recursive: true })
    if (Buffer.isBuffer(content)) await writeWhole(folder, name, content)
    else await moveWhole(folder, name, content.path)
  }

  async facts(id: string, name: FileName): Promise<FileFacts | undefined> {
    const file = await this.#openFile(id, name)
    try {
      return file && (await factsOf(file, name))
    } finally {
      await file?.close()
    }
  }

  async open(id: string, name: FileName, range?: ByteRange): Promise<OpenedFile | undefined> {
    const file = await this.#openFile(id, name)
    if (!file) return undefined
    const facts = await factsOf(file, name)
    return { ...facts, stream: file.createReadStream({ ...range, autoClose: true }) }
  }

  async fetch(id: string, name: FileName, target: string): Promise<boolean> {
    return copyFile(this.#pathOf(id, name), target).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false
        throw error
      },
    )
  }

  async remove(id: string, names?: readonly FileName[]): Promise<void> {
    if (!names) return rm(this.#folderOf(id), { recursive: true, force: true })
    // From the end: without its result, a job is not taken for a finished one if the server ends here.
    for (const name of [...names].reverse()) await rm(this.#pathOf(id, name), { force: true })
  }

  async ready(): Promise<void> {
    const probe = path.join(this.#folder, `.probe-${randomBytes(6).toString('hex')}`)
    try {
      await writeSynced(probe, Buffer.from('torchreel'))
    } finally {
      await rm(probe, { force: true })
    }
  }

  /** Undefined: there is none. A link is none. */
  async #openFile(id: string, name: FileName): Promise<FileHandle | undefined> {
    return open(this.#pathOf(id, name), constants.O_RDONLY | constants.O_NOFOLLOW).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ELOOP') return undefined
        throw error
      },
    )
  }

  #folderOf(id: string): string {
    if (!idPattern.test(id)) throw new Error(`${JSON.stringify(id)} is not the id of a job`)
    return path.join(this.#folder, id)
  }

  #pathOf(id: string, name: FileName): string {
    if (!Object.hasOwn(fileTypes, name)) throw new Error(`a job has no file ${JSON.stringify(name)}`)
    return path.join(this.#folderOf(id), name)
  }
}

async function factsOf(file: FileHandle, name: FileName): Promise<FileFacts> {
  const { size, mtimeMs, ino } = await file.stat()
  const etag = `"${[size, Math.round(mtimeMs * 1000), ino].map((part) => part.toString(36)).join('-')}"`
  return { size, etag, type: fileTypes[name] }
}

/** Writes a file so that it is there completely or not at all, also after a loss of power. */
export async function writeWhole(folder: string, name: string, content: Buffer | string): Promise<void> {
  const temporary = path.join(folder, `.${name}-${randomBytes(6).toString('hex')}`)
  try {
    await writeSynced(temporary, content)
    await rename(temporary, path.join(folder, name))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncFolder(folder)
}

async function moveWhole(folder: string, name: string, from: string): Promise<void> {
  const target = path.join(folder, name)
  await sync(from)
  try {
    await rename(from, target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    const near = path.join(folder, `.${name}-${randomBytes(6).toString('hex')}`)
    await copyFile(from, near)
    await sync(near)
    await rename(near, target)
    await rm(from, { force: true })
  }
  await syncFolder(folder)
}

async function writeSynced(file: string, content: Buffer | string): Promise<void> {
  const handle = await open(file, 'wx')
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function sync(file: string): Promise<void> {
  const handle = await open(file, 'r')
  await handle.sync().finally(() => handle.close())
}

/**
 * Makes a folder for this user alone, and those above it. (`recursive` of Node's mkdir never returns where the system makes no
 * folders, as in /proc.)
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const status = await stat(folder).catch(() => undefined)
    if (status?.isDirectory()) return
    const above = path.dirname(folder)
    if (code !== 'ENOENT' || (await stat(above).catch(() => undefined))) throw error
    await makeFolder(above)
    await mkdir(folder, { mode: 0o700 })
  }
}

/** Makes the names in a folder durable. */
export const syncFolder = sync
