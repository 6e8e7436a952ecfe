import { readFile, writeFile } from 'node:fs/promises'
import { Transform, type TransformCallback } from 'node:stream'

const fixedHeaderLength = 13
const longestBlock = 255

/** Writes a comment into a GIF file. ffmpeg cannot. */
export async function addGifComment(path: string, json: string): Promise<void> {
  const gif = await readFile(path)
  const end = headerEnd(gif) ?? gif.length
  await writeFile(path, Buffer.concat([gif.subarray(0, end), commentExtension(json), gif.subarray(end)]))
}

/** Passes a GIF through and inserts a comment after its header. */
export class GifComment extends Transform {
  readonly #comment: Buffer
  /** The bytes so far while the header is incomplete; undefined afterwards. */
  #header: Buffer | undefined = Buffer.alloc(0)

  constructor(json: string) {
    super()
    this.#comment = commentExtension(json)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#header === undefined) {
      done(null, chunk)
      return
    }
    const start = Buffer.concat([this.#header, chunk])
    const end = headerEnd(start)
    this.#header = end === undefined ? start : undefined
    if (end === undefined) done()
    else done(null, Buffer.concat([start.subarray(0, end), this.#comment, start.subarray(end)]))
  }

  override _flush(done: TransformCallback): void {
    done(null, this.#header)
  }
}

/** The end of a GIF's header and global colour table (GIF89a, 18 and 19). Undefined if more bytes are needed. */
function headerEnd(gif: Buffer): number | undefined {
  if (gif.length < fixedHeaderLength) return undefined
  const flags = gif[10] as number
  const end = fixedHeaderLength + (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0)
  return gif.length < end ? undefined : end
}

/** A comment extension (GIF89a, 24) in ASCII. Other characters of the JSON are escaped in JSON's way. */
function commentExtension(json: string): Buffer {
  const text = json.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  const blocks = [Buffer.from([0x21, 0xfe])]
  for (let at = 0; at < text.length; at += longestBlock) {
    const block = Buffer.from(text.slice(at, at + longestBlock), 'latin1')
    blocks.push(Buffer.from([block.length]), block)
  }
  blocks.push(Buffer.from([0]))
  return Buffer.concat(blocks)
}
