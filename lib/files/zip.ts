import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { crc32 } from 'node:zlib'
import { type Entry, openPromise } from 'yauzl'

/**
 * Unpacks a zip, such as an archive of libtorch or a Python wheel, and checks the CRC-32 of every file. Names that lead
 * out of the folder are refused by yauzl, links here.
 *
 * @param onBytes hears how many bytes of how many have been written
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
      if (sum !== entry.crc32) throw new Error(`${entry.fileName} is damaged: its CRC-32 is another`)
    }
  } finally {
    zip.close()
  }
}
