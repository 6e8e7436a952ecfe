import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { selectFiles, shardsOf } from '../checkpoint/selection.js'
import { TorchreelError } from '../errors.js'
import { readJson } from '../files/json.js'

/** One repository's folder in the cache: `blobs/HASH`, `snapshots/COMMIT/NAME` → blob, `refs/REVISION` = commit. */
export class CachedRepository {
  readonly id: string
  readonly folder: string

  constructor(id: string, cacheFolder: string) {
    this.id = id
    this.folder = path.join(cacheFolder, `models--${id.replace('/', '--')}`)
  }

  blob(hash: string): string {
    return path.join(this.folder, 'blobs', hash)
  }

  snapshot(commit: string): string {
    return path.join(this.folder, 'snapshots', commit)
  }

  /** The commit that a branch, a tag or a commit stands for, as far as the cache knows. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision
    const text = await readFile(path.join(this.folder, 'refs', revision), 'utf8').catch(() => '')
    return isCommit(text.trim()) ? text.trim() : undefined
  }

  /** The branches and tags that stand for a commit. */
  async revisionsOf(commit: string): Promise<string[]> {
    const names = await readdir(path.join(this.folder, 'refs'), { recursive: true }).catch((): string[] => [])
    const commits = await Promise.all(names.map((name) => this.commitOf(name)))
    return names.filter((_, index) => commits[index] === commit).sort()
  }

  /** The names of a snapshot's files, without those whose blob is not there. */
  async files(commit: string): Promise<string[]> {
    const snapshot = this.snapshot(commit)
    const names = await readdir(snapshot, { recursive: true }).catch((): string[] => [])
    return names
      .filter((name) => existsSync(path.join(snapshot, name)))
      .map((name) => name.replaceAll(path.sep, '/'))
  }

  /** Gives a blob its name in a snapshot: a relative link, so that the cache can be moved. */
  async link(commit: string, name: string, hash: string): Promise<void> {
    const pointer = path.join(this.snapshot(commit), name)
    const target = path.relative(path.dirname(pointer), this.blob(hash))
    if ((await readlink(pointer).catch(() => undefined)) === target) return
    await mkdir(path.dirname(pointer), { recursive: true })
    const temporary = `${pointer}.${randomBytes(6).toString('hex')}`
    try {
      await symlink(target, temporary)
      await rename(temporary, pointer)
    } catch (error) {
      await rm(temporary, { force: true })
      // A file system without links: the file itself, as Python does.
      if (!['EPERM', 'ENOSYS', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      await rename(this.blob(hash), pointer)
    }
  }

  /** Says that a revision is this commit. What a reader finds by it must be whole by now. */
  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return
    const file = path.join(this.folder, 'refs', revision)
    await mkdir(path.dirname(file), { recursive: true })
    const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`
    await writeFile(temporary, commit)
    await rename(temporary, file)
  }

  /**
   * A snapshot with every file that a checkpoint needs.
   *
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_UNTRUSTED`, `ERR_MODEL_INCOMPATIBLE`, saying what is missing
   */
  async wholeSnapshot(revision: string, variant: string | undefined): Promise<string> {
    const commit = await this.commitOf(revision)
    const snapshot = commit && this.snapshot(commit)
    if (!commit || !snapshot || !existsSync(snapshot)) {
      throw new TorchreelError(
        'ERR_MODEL_NOT_FOUND',
        `${this.id} (revision ${revision}) is not in the cache ${path.dirname(this.folder)}`,
        { path: this.folder },
      )
    }
    await this.checkWhole(commit, variant)
    return snapshot
  }

  /** Throws, saying what is missing, unless a snapshot has every file that a checkpoint needs. */
  async checkWhole(commit: string, variant: string | undefined): Promise<void> {
    const snapshot = this.snapshot(commit)
    const names = await this.files(commit)
    const { indexes } = selectFiles(this.id, names, variant)
    for (const index of indexes) {
      const shards = shardsOf(index, await readJson(path.join(snapshot, index)))
      const missing = shards.filter((shard) => !names.includes(shard))
      if (missing.length === 0) continue
      throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${snapshot} lacks ${missing.join(', ')}`, {
        path: snapshot,
      })
    }
  }
}

/** 40 hex digits. */
export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text)
}
