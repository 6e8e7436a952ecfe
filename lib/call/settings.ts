import path from 'node:path'
import type { Adapters } from '../adapters/adapters.js'
import type { CheckedGenerateOptions } from '../options/call.js'
import { writtenValues } from '../schedulers/config.js'
import type { Scheduler } from '../schedulers/index.js'
import type { VideoSettings } from '../video/facts.js'

/** What of a call its videos keep, so that they can be made again. */
export function settingsOf(
  checked: CheckedGenerateOptions,
  scheduler: Scheduler,
  { loras, textualInversions }: Pick<Adapters, 'loras' | 'textualInversions'>,
): VideoSettings {
  const { frames, width, height, eta, clipSkip, timesteps, sigmas, vaeTiling, window, freeU } = checked
  const { featureCache, guidanceInterval } = checked
  const working = loras.filter(({ scale }) => scale !== 0)
  const inputs = (['video', 'latents', 'promptEmbeds', 'negativePromptEmbeds'] as const).filter(
    (name) => checked[name] !== undefined,
  )
  return {
    frames,
    width,
    height,
    ...(eta > 0 && { eta }),
    ...(clipSkip > 0 && { clipSkip }),
    schedulerConfig: recordable(scheduler.config ?? {}),
    ...definedOf({ timesteps, sigmas, vaeTiling, window, freeU, guidanceInterval }),
    ...(featureCache > 1 && { featureCache }),
    ...(working.length > 0 && {
      loras: working.map(({ file, scale }) => ({ file: path.basename(file), scale })),
    }),
    ...(textualInversions.length > 0 && {
      textualInversions: textualInversions.map(({ file, token }) => ({ file: path.basename(file), token })),
    }),
    ...(inputs.length > 0 && { inputs }),
  }
}

/** Without values that JSON has no word for, such as the -Infinity of lambda_min_clipped: its default. */
function recordable(config: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(writtenValues(config)).filter(
      ([, value]) => typeof value !== 'number' || Number.isFinite(value),
    ),
  )
}

function definedOf<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>
}
