import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import {
  checkHasIndex,
  type FamilyFiles,
  filesOfPart,
  listShards,
  readFamily,
  selectFiles,
  type WantedPart,
} from '../checkpoint/selection.js'
import { TorchreelError } from '../errors.js'
import type { Family } from '../families/family.js'
import { readJson } from '../files/json.js'
import { exists } from '../files/regular_file.js'

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

  /** The commit of a branch, a tag or a commit, if the cache knows it. */
  async findCommit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision
    const text = await readFile(path.join(this.folder, 'refs', revision), 'utf8').catch(() => '')
    return isCommit(text.trim()) ? text.trim() : undefined
  }

  /** The branches and tags that name a commit. */
  async listRevisions(commit: string): Promise<string[]> {
    const names = await readdir(path.join(this.folder, 'refs'), { recursive: true }).catch((): string[] => [])
    const commits = await Promise.all(names.map((name) => this.findCommit(name)))
    return names.filter((_, index) => commits[index] === commit).sort()
  }

  /** The names of a snapshot's files, without those whose blob is missing. */
  async files(commit: string): Promise<string[]> {
    const snapshot = this.snapshot(commit)
    const names = await readdir(snapshot, { recursive: true }).catch((): string[] => [])
    return names
      .filter((name) => exists(path.join(snapshot, name)))
      .map((name) => name.replaceAll(path.sep, '/'))
  }

  /** Gives a blob its name in a snapshot: by a relative link, so that the cache can be moved. */
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
      // A file system without links: move the file itself, as Python does.
      if (!['EPERM', 'ENOSYS', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      await rename(this.blob(hash), pointer)
    }
  }

  /** Records the commit of a revision. Its snapshot must be complete by now: readers find it by this. */
  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.findCommit(revision)) === commit) return
    const file = path.join(this.folder, 'refs', revision)
    await mkdir(path.dirname(file), { recursive: true })
    const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`
    await writeFile(temporary, commit)
    await rename(temporary, file)
  }

  /**
   * The folder of a snapshot that has every file that a checkpoint needs.
   *
   * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`, `ERR_MODEL_UNTRUSTED`, `ERR_MODEL_INCOMPATIBLE`, with
   * what is missing
   */
  async wholeSnapshot(
    revision: string,
    variant: string | undefined,
    part?: WantedPart | undefined,
  ): Promise<string> {
    const commit = await this.findCommit(revision)
    const snapshot = commit && this.snapshot(commit)
    if (!commit || !snapshot || !exists(snapshot)) {
      throw new TorchreelError(
        'ERR_MODEL_NOT_FOUND',
        `${this.id} (revision ${revision}) is not in the cache ${path.dirname(this.folder)}`,
        { path: this.folder },
      )
    }
    await this.checkWhole(commit, variant, part)
    return snapshot
  }

  /** Throws, with what is missing, unless a snapshot has every file that a checkpoint needs. */
  async checkWhole(
    commit: string,
    variant: string | undefined,
    part?: WantedPart | undefined,
  ): Promise<void> {
    const snapshot = this.snapshot(commit)
    const names = await this.files(commit)
    if (!part || 'without' in part) checkHasIndex(this.id, names)
    const wanted = await readWantedFiles(this.id, snapshot, part)
    const { indexes } = selectFiles(wanted, this.id, names, variant)
    for (const index of indexes) {
      const shards = listShards(index, await readJson(path.join(snapshot, index)))
      const missing = shards.filter((shard) => !names.includes(shard))
      if (missing.length === 0) continue
      throw new TorchreelError(
        'ERR_MODEL_NOT_FOUND',
        `${snapshot} is incomplete: ${missing.join(', ')} is missing`,
        {
          path: snapshot,
        },
      )
    }
  }
}

/**
 * The files that are wanted of a snapshot, whose index tells the family unless a text encoder is wanted alone.
 *
 * @param checkFamily gets this family, and may throw
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE`
 */
export async function readWantedFiles(
  model: string,
  snapshot: string,
  part: WantedPart | undefined,
  checkFamily?: (family: Family) => void,
): Promise<FamilyFiles> {
  if (part && 'textEncoderOf' in part) return filesOfPart(part.textEncoderOf, 'textEncoder')
  const family = await readFamily(model, snapshot)
  checkFamily?.(family)
  return filesOfPart(family, part ? 'withoutTextEncoder' : 'whole')
}

/** 40 hex digits. */
export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text)
}
