import { Readable } from 'node:stream'
import type { Context } from 'hono'
import { ApiError, InvalidRequest, notFound } from '../errors.js'
import type { ByteRange, FileFacts, FileName, Files } from '../files/files.js'
import type { Job } from '../jobs/job.js'

// The files of a video, with what HTTP asks of them: ranges, conditions, HEAD.

const variants: Readonly<Record<string, FileName>> = {
  video: 'video.mp4',
  thumbnail: 'thumbnail.png',
  spritesheet: 'spritesheet.png',
  preview: 'preview.png',
}

/** @param linkSeconds redirect to an address of the store that is good for so long, if it has such */
export async function answerContent(
  c: Context,
  files: Files,
  job: Job,
  linkSeconds?: number,
): Promise<Response> {
  const variant = c.req.query('variant') ?? 'video'
  if (!Object.hasOwn(variants, variant))
    throw new InvalidRequest(`variant must be one of ${Object.keys(variants).join(', ')}`, 'variant')
  if (variant === 'preview') return answerPreview(c, files, job)
  const name = variants[variant] as FileName
  const facts = job.state === 'completed' ? await files.facts(job.id, name) : undefined
  if (!facts) throw notFound(`${job.id} has no ${variant}: it is ${job.state}`, 'video_not_ready')
  const fileName = downloadName(job, name)
  if (linkSeconds !== undefined && files.link)
    return c.redirect(
      await files.link(
        job.id,
        name,
        linkSeconds,
        c.req.query('download') === undefined ? undefined : fileName,
      ),
    )

  const { headers } = c.req.raw
  const answer = new Headers({
    'content-type': facts.type,
    etag: facts.etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
    'content-disposition': `${c.req.query('download') === undefined ? 'inline' : 'attachment'}; filename="${fileName}"`,
  })
  if (
    headers
      .get('if-none-match')
      ?.split(/\s*,\s*/)
      .includes(facts.etag)
  )
    return new Response(null, { status: 304, headers: answer })

  const range = wantedRange(headers, facts)
  const { start, end } = range ?? { start: 0, end: facts.size - 1 }
  answer.set('content-length', String(end - start + 1))
  if (range) answer.set('content-range', `bytes ${start}-${end}/${facts.size}`)
  const status = range ? 206 : 200
  if (c.req.raw.method === 'HEAD') return new Response(null, { status, headers: answer })
  const opened = await files.open(job.id, name, range)
  // Removed since its facts were read.
  if (opened?.etag !== facts.etag) {
    opened?.stream.destroy()
    throw notFound(`${job.id} has no ${variant} any more`, 'video_not_ready')
  }
  return new Response(Readable.toWeb(opened.stream) as ReadableStream, { status, headers: answer })
}

/** The latest preview, whole. After the last one, the finished video's picture stands for it: a page may still ask. */
async function answerPreview(c: Context, files: Files, job: Job): Promise<Response> {
  const opened = (await files.open(job.id, 'preview.png')) ?? (await files.open(job.id, 'thumbnail.png'))
  if (!opened) throw notFound(`${job.id} has no preview: it is ${job.state}`, 'video_not_ready')
  const headers = {
    'content-type': opened.type,
    'content-length': String(opened.size),
    'cache-control': 'no-store',
    'content-disposition': 'inline',
  }
  if (c.req.raw.method !== 'HEAD')
    return new Response(Readable.toWeb(opened.stream) as ReadableStream, { headers })
  opened.stream.destroy()
  return new Response(null, { headers })
}

/**
 * The range of a request; undefined: the whole file, also for several ranges, and for a file that has changed.
 *
 * @throws ApiError 416
 */
function wantedRange(headers: Headers, { size, etag }: FileFacts): ByteRange | undefined {
  const condition = headers.get('if-range')
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(headers.get('range') ?? '') ?? []
  if (first === undefined || last === undefined || first + last === '') return undefined
  if (condition !== null && condition !== etag) return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (start < size && start <= end) return { start, end }
  const message = `the file has ${size} bytes`
  throw new ApiError(416, 'invalid_request_error', 'range_not_satisfiable', message, null, {
    'content-range': `bytes */${size}`,
  })
}

/** From the prompt's letters and digits alone. */
function downloadName({ id, request }: Job, name: FileName): string {
  const words = request.prompt.toLowerCase().match(/[a-z0-9]+/g) ?? []
  const ending = name.slice(name.indexOf('.'))
  return `${[...words, id.slice(-6)].join('-').slice(-60).replace(/^-/, '')}${name === 'video.mp4' ? '' : `-${name.split('.')[0]}`}${ending}`
}
