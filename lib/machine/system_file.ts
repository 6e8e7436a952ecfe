import { readFileSync } from 'node:fs'

/** A file of the system, such as one of /proc; undefined: there is none, or it may not be read. */
export function readSystemFile(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
