import type { Readable } from 'node:stream'

// The files of jobs. Keys are made of a job's id and one of these names only.

/** Each file of a job, with its media type. `result.json` comes last: a job that has it has all files of its video. */
export const fileTypes = {
  input: 'application/octet-stream',
  'video.mp4': 'video/mp4',
  'thumbnail.png': 'image/png',
  'spritesheet.png': 'image/png',
  'preview.png': 'image/apng',
  'result.json': 'application/json',
} as const

export type FileName = keyof typeof fileTypes

export const allFiles = Object.keys(fileTypes) as readonly FileName[]

/** What a job needs only until its end. */
export const filesUntilEnd: readonly FileName[] = ['input', 'preview.png']

/** What is kept of a job that has ended. */
export function filesAfter(state: string): readonly FileName[] {
  return state === 'completed' ? allFiles.filter((name) => !filesUntilEnd.includes(name)) : []
}

export interface FileFacts {
  /** Bytes. */
  readonly size: number
  /** Changes with the content; in quotes, as HTTP writes it. */
  readonly etag: string
  readonly type: string
}

export interface OpenedFile extends FileFacts {
  /** The bytes of the range. */
  readonly stream: Readable
}

/** Bytes, the last one included. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

export interface Files {
  /** Stores a whole file, or nothing. A path's file is moved, and gone afterwards. */
  put(id: string, name: FileName, content: { readonly path: string } | Buffer): Promise<void>
  facts(id: string, name: FileName): Promise<FileFacts | undefined>
  /** @param range within the file */
  open(id: string, name: FileName, range?: ByteRange): Promise<OpenedFile | undefined>
  /** Copies a file of a job to a path of this machine. False: there is none. */
  fetch(id: string, name: FileName, path: string): Promise<boolean>
  /** An address that gives the file without this server, for so many seconds. */
  link?(id: string, name: FileName, seconds: number, download: string | undefined): Promise<string>
  /** Removes all files of a job, or some. */
  remove(id: string, names?: readonly FileName[]): Promise<void>
  /** @throws Error that says what is wrong */
  ready(): Promise<void>
}
