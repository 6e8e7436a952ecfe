import { basename, dirname, extname, join, resolve, sep } from 'node:path'
import { invalidArgument } from '../../errors.js'
import { readPath } from '../../files/paths.js'
import type { VideoFormat } from './formats.js'

type FileFormat = Exclude<VideoFormat, 'png'>

/** The target of frames: one file, or one PNG per frame. */
export type Destination =
  | { readonly format: FileFormat; readonly path: string; readonly sidecar: string }
  | PngSequence

export interface PngSequence {
  readonly format: 'png'
  /** The absolute path, with its pattern. */
  readonly path: string
  /** The absolute path of the JSON file beside it. */
  readonly sidecar: string
  /** Set if the name ends in a separator: a folder to create. */
  readonly folder?: string
  /** The file of a frame, counted from 1. Undefined after the first frame if the name has no number. */
  readonly frame: (number: number) => string | undefined
}

const fileFormats: ReadonlyMap<string, FileFormat> = new Map([
  ['mp4', 'mp4'],
  ['mov', 'mov'],
  ['mkv', 'mkv'],
  ['webm', 'webm'],
  ['gif', 'gif'],
  ['webp', 'webp'],
  ['apng', 'apng'],
  ['rgb', 'rgb24'],
])

const knownNames =
  'a file name ending in .mp4, .mov, .mkv, .webm, .gif, .webp, .apng or .rgb, or in .png with %d or %04d for the frame number, or a folder name ending in /'

/** Determines format and files from a name: see {@link Video.save}. */
export function parseDestination(given: string | URL): Destination {
  const name = readPath(given)
  if (name === undefined) {
    throw invalidArgument('path', knownNames, given)
  }
  const path = resolve(name)
  if (name.endsWith('/') || name.endsWith(sep)) {
    return { ...pngSequence(join(path, 'frame_%04d.png')), folder: path }
  }
  const extension = extname(path).slice(1).toLowerCase()
  if (extension === 'png') return pngSequence(path)
  const format = fileFormats.get(extension)
  if (!format) throw invalidArgument('path', knownNames, given)
  return { format, path, sidecar: jsonBeside(path) }
}

function jsonBeside(path: string): string {
  return `${path.slice(0, path.length - extname(path).length)}.json`
}

function pngSequence(path: string): PngSequence {
  const name = basename(path)
  const [number, second] = Array.from(name.matchAll(/%(?:0(\d))?d/g))
  if (second) throw invalidArgument('path', 'a file name with only one %d', path)
  return {
    format: 'png',
    path,
    sidecar: number ? join(dirname(path), 'frames.json') : jsonBeside(path),
    frame(index) {
      if (!number) return index === 1 ? path : undefined
      const digits = `${index}`.padStart(Number(number[1] ?? 1), '0')
      const end = number.index + number[0].length
      return join(dirname(path), name.slice(0, number.index) + digits + name.slice(end))
    },
  }
}

/** The file of one frame of a sequence, counted from 1. */
export function frameFile(destination: PngSequence, number: number): string {
  const path = destination.frame(number)
  if (path === undefined) {
    throw invalidArgument('path', 'a name with %d or %04d for the frame number', destination.path)
  }
  return path
}
