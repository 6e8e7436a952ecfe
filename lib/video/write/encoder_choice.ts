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
    const silent: string[] = []
    for (const encoder of encoders.filter(({ fallback }) => fallback)) {
      const ffmpeg = await findFfmpeg(named, [encoder.name], signal).catch((failure: unknown) => {
        if (isMissing(failure)) return undefined
        throw failure
      })
      if (!ffmpeg) continue
      const failure = encoder.hardware ? await tryHardware(ffmpeg, encoder, signal) : undefined
      if (failure !== undefined) {
        silent.push(
          `${ffmpeg.path} lists ${encoder.name}, but it does not encode on this machine: ${failure}`,
        )
        continue
      }
      const warning = `ffmpeg ${ffmpeg.version} (${ffmpeg.path}) has no ${names.join(' or ')}: encoded with ${encoder.name}`
      return { ffmpeg, encoder, warning }
    }
    throw silent.length === 0 ? error : withLines(error, silent)
  }
}

/** The error with more lines at its end. */
function withLines(error: TorchreelError, lines: readonly string[]): TorchreelError {
  const { expected = '', received } = error
  return new TorchreelError(error.code, [error.message, ...lines].join('\n'), {
    ...{ parameter: 'ffmpeg', expected, received },
    cause: error,
  })
}

function isMissing(error: unknown): error is TorchreelError {
  return error instanceof TorchreelError && error.code === 'ERR_ENCODER_NOT_FOUND'
}

/** Hardware encoders that have answered, as `PATH NAME`. Others are asked again: the hardware may have been in use. */
const answered = new Set<string>()

/** A size that every encoder takes, and settings as for a video without wishes. */
const trial = {
  width: 256,
  height: 256,
  pixelFormat: 'yuv420p',
  crf: 0,
  bitrate: undefined,
  quality: 0,
} as const
const trialTimeoutMs = 10_000

/**
 * Encodes a frame with a hardware encoder: ffmpeg lists it on machines without the hardware, too.
 *
 * @returns why it failed; undefined if it did not
 */
async function tryHardware(
  ffmpeg: Ffmpeg,
  encoder: Encoder,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const key = `${ffmpeg.path} ${encoder.name}`
  if (answered.has(key)) return undefined
  const { width, height } = trial
  const frame = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-video_size', `${width}x${height}`, '-i', 'pipe:0']
  const output = ['-vf', encoder.filters(trial), '-c:v', encoder.name, ...encoder.parameters(trial)]
  const parameters = ['-v', 'error', '-nostdin', ...frame, ...output, '-f', 'null', '-']
  const timeout = AbortSignal.timeout(trialTimeoutMs)
  const stdin = [new Uint8Array(width * height * 3)]
  try {
    await runFfmpeg(ffmpeg.path, parameters, {
      stdin,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    })
    answered.add(key)
    return undefined
  } catch (error) {
    signal?.throwIfAborted()
    if (timeout.aborted) return `no answer within ${trialTimeoutMs / 1000} s`
    const { stderrTail, message } = error as TorchreelError
    return stderrTail?.trim().split('\n')[0] || message
  }
}
