import { TorchreelError } from '../../errors.js'
import { type Ffmpeg, findFfmpeg, runFfmpeg } from '../ffmpeg.js'
import type { Encoder } from './encoders.js'

/** An ffmpeg, and the encoder of it that is used. */
export interface EncoderChoice {
  readonly ffmpeg: Ffmpeg
  readonly encoder: Encoder
  /** Says that a fallback was chosen. */
  readonly warning: string | undefined
}

/**
 * Chooses the first ffmpeg that has one of the encoders, the best first. Fallbacks come after all others, in every
 * ffmpeg, and hardware only where it answers.
 *
 * @param named path of an ffmpeg, or its name on `PATH`
 * @throws TorchreelError `ERR_ENCODER_NOT_FOUND`, with the encoders that it should have; `signal.reason`
 */
export async function chooseEncoder(
  encoders: readonly Encoder[],
  named: string | URL | undefined,
  signal: AbortSignal | undefined,
): Promise<EncoderChoice> {
  const names = encoders.filter(({ fallback }) => !fallback).map(({ name }) => name)
  try {
    const ffmpeg = await findFfmpeg(named, names, signal)
    const encoder = encoders.find(({ name }) => ffmpeg.encoders.has(name)) as Encoder
    return { ffmpeg, encoder, warning: undefined }
  } catch (error) {
    if (!isMissing(error)) throw error
    for (const encoder of encoders.filter(({ fallback }) => fallback)) {
      const ffmpeg = await findFfmpeg(named, [encoder.name], signal).catch((failure: unknown) => {
        if (isMissing(failure)) return undefined
        throw failure
      })
      if (!ffmpeg || (encoder.hardware && !(await answers(ffmpeg, encoder.name, signal)))) continue
      const warning = `ffmpeg ${ffmpeg.version} (${ffmpeg.path}) has no ${names.join(' or ')}: encoded with ${encoder.name}`
      return { ffmpeg, encoder, warning }
    }
    throw error
  }
}

/** Hardware encoders that have answered, as `PATH NAME`. Others are asked again: the hardware may have been in use. */
const answered = new Set<string>()

function isMissing(error: unknown): boolean {
  return error instanceof TorchreelError && error.code === 'ERR_ENCODER_NOT_FOUND'
}

/** Whether a hardware encoder encodes a frame: ffmpeg lists it on machines without the hardware, too. */
async function answers(ffmpeg: Ffmpeg, encoder: string, signal: AbortSignal | undefined): Promise<boolean> {
  const key = `${ffmpeg.path} ${encoder}`
  if (answered.has(key)) return true
  const frame = ['-f', 'rawvideo', '-pix_fmt', 'yuv420p', '-video_size', '256x256', '-i', 'pipe:0']
  const parameters = ['-v', 'error', '-nostdin', ...frame, '-c:v', encoder, '-f', 'null', '-']
  const stdin = [new Uint8Array((256 * 256 * 3) / 2)]
  return runFfmpeg(ffmpeg.path, parameters, { stdin, signal }).then(
    () => {
      answered.add(key)
      return true
    },
    () => {
      signal?.throwIfAborted()
      return false
    },
  )
}
