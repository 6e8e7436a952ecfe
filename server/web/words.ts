// Numbers and states as words.
import type { Video } from './protocol.ts'

const stages: Readonly<Record<string, string>> = {
  download: 'Downloading the model',
  load: 'Loading the model',
  encode: 'Reading the prompt',
  denoise: 'Denoising',
  decode: 'Drawing the frames',
  write: 'Writing the file',
}

/** 'Denoising 12 of 25', 'Next in line' … */
export function stateInWords({ torchreel }: Video): string {
  const { state, stage, step, steps, queue_position: position } = torchreel
  if (state === 'queued') {
    if (position === null) return 'Waiting'
    return position === 1 ? 'Next in line' : `Waiting, ${ordinal(position)} in line`
  }
  if (state === 'cancelling') return 'Cancelling'
  if (state === 'completed') return 'Done'
  if (state === 'failed') return 'Failed'
  if (state === 'cancelled') return 'Cancelled'
  const words = stages[stage ?? ''] ?? 'Starting'
  return stage === 'denoise' && step && steps ? `${words} ${step} of ${steps}` : words
}

/** '5 s left'; undefined while unknown. */
export function timeLeft({ torchreel: { state, eta_ms: eta } }: Video): string | undefined {
  if (state !== 'running' || eta === null || eta < 500) return undefined
  return `${duration(eta)} left`
}

export function duration(milliseconds: number): string {
  const seconds = milliseconds / 1000
  if (seconds < 9.95) return `${Math.max(0.1, seconds).toFixed(1).replace('.0', '')} s`
  if (seconds < 90) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 90) return `${minutes} min`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export function ordinal(n: number): string {
  const rest = n % 100
  if (rest >= 11 && rest <= 13) return `${n}th`
  return `${n}${['th', 'st', 'nd', 'rd'][n % 10] ?? 'th'}`
}

/** How long a video took, from its timings or from when it was asked for. */
export function timeTaken(video: Video): string | undefined {
  const total = video.torchreel.timings?.total
  if (total !== undefined) return duration(total)
  return video.completed_at === null ? undefined : duration((video.completed_at - video.created_at) * 1000)
}

export function sizeInWords(size: string): string {
  return size.replace('x', ' × ')
}

/** A prompt as the name of a video; `length` characters at most. */
export function nameOf({ prompt }: Video, length = 60): string {
  const text = (prompt ?? '').trim() || 'A video without a prompt'
  return text.length <= length ? text : `${text.slice(0, length - 1).trimEnd()}…`
}
