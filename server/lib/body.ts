import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { Busboy } from '@fastify/busboy'
import { ApiError, InvalidRequest, TooLarge } from './errors.js'
import type { Words } from './fields.js'

export interface BodyLimits {
  /** Bytes of JSON, and of a field of a form. */
  readonly json: number
  /** Bytes of the file. */
  readonly upload: number
}

/** A file that came with a request, on disk. */
export interface Upload {
  /** The field that it came in. */
  readonly field: string
  readonly path: string
}

export interface Body {
  readonly words: Words
  readonly upload: Upload | undefined
  /** sha256 of all fields and the file. */
  readonly hash: string
  /** Removes the file, if it is still there. Call it in any case. */
  dispose(): Promise<void>
}

const maxFields = 64
const fileFields = ['input_reference', 'video']

/**
 * Reads a body as JSON or as a form, of which one part may be a video: it is counted and hashed while it goes to disk.
 *
 * @throws ApiError; then no file stays
 */
export async function readBody(request: Request, folder: string, limits: BodyLimits): Promise<Body> {
  const type = request.headers.get('content-type')?.toLowerCase() ?? ''
  if (/^application\/(\w+\+)?json\b/.test(type)) {
    const words = await readJson(request, limits.json)
    return { words, upload: undefined, hash: hashOf(words, ''), dispose: async () => {} }
  }
  if (type.startsWith('multipart/form-data')) return readForm(request, folder, limits)
  throw new ApiError(
    415,
    'invalid_request_error',
    'unsupported_media_type',
    'the body must be JSON or multipart/form-data',
  )
}

/** Reads a JSON object. */
export async function readJson(request: Request, limit: number): Promise<Words> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of bytesOf(request)) {
    bytes += chunk.length
    if (bytes > limit) throw new TooLarge(`the body must have at most ${limit} bytes`)
    chunks.push(chunk)
  }
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)))
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return new Map(Object.entries(value))
  } catch {
    throw new InvalidRequest('the body is not JSON', null, 'invalid_json')
  }
  throw new InvalidRequest('the body must be a JSON object', null, 'invalid_json')
}

async function readForm(request: Request, folder: string, limits: BodyLimits): Promise<Body> {
  const words = new Map<string, unknown>()
  const file = path.join(folder, `upload-${randomBytes(12).toString('hex')}`)
  const dispose = () => rm(file, { force: true })
  const source = bytesOf(request)
  let upload: Upload | undefined
  let written: Promise<string> | undefined
  const given = new AbortController()
  try {
    const parser = formParser(request, limits)
    // Of several complaints the first one is told: the others follow from it.
    const complaint = new Promise<never>((_, reject) => {
      const refuse = (error: ApiError) => {
        reject(error)
        source.destroy()
        parser.destroy()
      }
      parser.on('partsLimit', () => refuse(new TooLarge(`a form may have ${maxFields} fields`)))
      parser.on('fieldsLimit', () => refuse(new TooLarge(`a form may have ${maxFields} fields`)))
      parser.on('filesLimit', () => refuse(new InvalidRequest('a request may have one file')))
      parser.on('field', (name, value, nameCut, valueCut) => {
        if (nameCut || valueCut)
          refuse(new TooLarge(`a field may have ${limits.json} bytes`, name.slice(0, 60)))
        else if (words.has(name))
          refuse(new InvalidRequest(`${name.slice(0, 60)} is given twice`, name.slice(0, 60)))
        else words.set(name, value)
      })
      parser.on('file', (field, stream) => {
        if (!fileFields.includes(field)) {
          stream.resume()
          return refuse(
            new InvalidRequest(
              `a file must be in input_reference, not in ${field.slice(0, 60)}`,
              field.slice(0, 60),
            ),
          )
        }
        stream.once('limit', () => refuse(new TooLarge(`a file may have ${limits.upload} bytes`, field)))
        upload = { field, path: file }
        written = writeVideo(stream, file, field, given.signal)
        written.catch(refuse)
      })
    })
    const parsed = pipeline(source, parser).catch((error) => {
      if (error instanceof ApiError) throw error
      throw new InvalidRequest('the form is broken or was cut off', null, 'invalid_form')
    })
    complaint.catch(() => {})
    await Promise.race([complaint, parsed])
    const fileHash = (await Promise.race([complaint, written])) ?? ''
    return { words, upload, hash: hashOf(words, fileHash), dispose }
  } catch (error) {
    source.destroy()
    given.abort() // the parser does not end the file of a form that broke off
    await written?.catch(() => {})
    await dispose()
    throw error
  }
}

function formParser(request: Request, limits: BodyLimits) {
  try {
    return new Busboy({
      headers: { 'content-type': request.headers.get('content-type') ?? '' },
      limits: {
        fieldNameSize: 100,
        fieldSize: limits.json,
        fields: maxFields,
        fileSize: limits.upload,
        files: 1,
        parts: maxFields + 1,
        headerPairs: 20,
      },
    })
  } catch {
    throw new InvalidRequest('the form has no boundary', null, 'invalid_form')
  }
}

/** Writes a video to disk, and gives its sha256. Anything that does not begin as a video is refused. */
async function writeVideo(
  stream: Readable,
  file: string,
  field: string,
  signal: AbortSignal,
): Promise<string> {
  const hash = createHash('sha256')
  let head = Buffer.alloc(0)
  let isKnown = false
  const check = (atEnd: boolean) => {
    if (isKnown || (head.length < headBytes && !atEnd)) return
    const what = kindOf(head)
    if (what === 'image')
      throw new InvalidRequest('no model here starts from an image; upload a video', field, 'unsupported')
    if (what === 'other')
      throw new InvalidRequest('the file is not a video that torchreel reads', field, 'not_a_video')
    isKnown = true
  }
  const look = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        hash.update(chunk)
        if (!isKnown) head = Buffer.concat([head, chunk.subarray(0, headBytes)])
        check(false)
        done(null, chunk)
      } catch (error) {
        done(error as Error)
      }
    },
    flush(done) {
      try {
        check(true)
        done()
      } catch (error) {
        done(error as Error)
      }
    },
  })
  const target = createWriteStream(file, { flags: 'wx', mode: 0o600 })
  try {
    await pipeline(stream, look, target, { signal })
  } finally {
    // A stream that failed while its file was being opened makes the file all the same, and then closes it.
    if (!target.closed) await new Promise<void>((resolve) => target.once('close', resolve))
  }
  return hash.digest('hex')
}

const headBytes = 4096

/** By the first bytes: containers that hold videos. A playlist, which could name other files, is none. */
function kindOf(head: Buffer): 'video' | 'image' | 'other' {
  const at = (offset: number, text: string) => head.toString('latin1', offset, offset + text.length) === text
  if (at(4, 'ftyp') || at(4, 'moov') || at(4, 'mdat') || at(4, 'wide') || at(4, 'free')) return 'video' // mp4, mov
  if (at(0, '\x1aE\xdf\xa3')) return 'video' // mkv, webm
  if (at(0, 'RIFF') && (at(8, 'AVI ') || at(8, 'WEBP'))) return 'video'
  if (at(0, 'GIF8')) return 'video'
  if (at(0, '\x89PNG')) return head.includes('acTL') ? 'video' : 'image'
  return at(0, '\xff\xd8\xff') || at(0, 'BM') ? 'image' : 'other'
}

function bytesOf(request: Request): Readable {
  return request.body ? Readable.fromWeb(request.body as ReadableStream<Uint8Array>) : Readable.from([])
}

function hashOf(words: Words, file: string): string {
  const sorted = [...words].sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify([sorted, file]))
    .digest('hex')
}
