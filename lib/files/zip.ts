import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { Transform } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { crc32 } from 'node:zlib'
import { type Entry, openPromise } from 'yauzl'

/**
 * Unpacks a zip, such as an archive of libtorch or a Python wheel, and checks the CRC-32 of every file. yauzl refuses
 * names that lead out of the folder; links are refused here.
 *
 * @param onBytes gets the number of bytes written so far, and of all
 */
export async function unpack(
  file: string,
  folder: string,
  onBytes: (bytes: number, totalBytes: number) => void,
): Promise<void> {
  const zip = await openPromise(file, { autoClose: false })
  const entries: Entry[] = []
  try {
    for await (const entry of zip.eachEntry()) entries.push(entry)
    const total = entries.reduce((sum, entry) => sum + entry.uncompressedSize, 0)
    let written = 0
    for (const entry of entries) {
      const target = path.join(folder, entry.fileName)
      if (entry.fileName.endsWith('/')) continue
      if (((entry.externalFileAttributes >>> 28) & 0xf) === 0xa)
        throw new Error(`${entry.fileName} is a link`)
      await mkdir(path.dirname(target), { recursive: true })
      let sum = 0
      const checked = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          sum = crc32(chunk, sum)
          written += chunk.length
          onBytes(written, total)
          done(null, chunk)
        },
      })
      await pipeline(await zip.openReadStreamPromise(entry), checked, createWriteStream(target))
      checkSum(entry, sum)
    }
  } finally {
    zip.close()
  }
}

/**
 * Reads some files of a zip into memory, and checks the CRC-32 of each.
 *
 * @param select gives a file's key in the result by its name in the zip; undefined: leave it out
 * @param maxBytes refuses a larger file
 */
export async function readEntries(
  file: string,
  select: (name: string) => string | undefined,
  maxBytes: number,
): Promise<Map<string, Buffer>> {
  const zip = await openPromise(file, { autoClose: false })
  try {
    const contents = new Map<string, Buffer>()
    for await (const entry of zip.eachEntry()) {
      const key = select(entry.fileName)
      if (key === undefined) continue
      if (entry.uncompressedSize > maxBytes) throw new Error(`${entry.fileName} is too large`)
      const content = await buffer(await zip.openReadStreamPromise(entry))
      checkSum(entry, crc32(content))
      contents.set(key, content)
    }
    return contents
  } finally {
    zip.close()
  }
}

function checkSum(entry: Entry, sum: number): void {
  if (sum !== entry.crc32) throw new Error(`${entry.fileName} is damaged: its CRC-32 does not match`)
}
