import path from 'node:path'
import type { Adapters } from '../adapters/adapters.js'
import type { Table } from '../checks/options.js'
import { callOptions } from '../options/call.js'
import { writtenValues } from '../schedulers/config.js'
import type { Scheduler } from '../schedulers/index.js'
import type { VideoSettings } from '../video/facts.js'
import type { SizedCall } from './fit_call.js'

/** The settings of a call that its videos keep, so that they can be made again. */
export function describeSettings(
  call: SizedCall,
  scheduler: Scheduler,
  { loras, textualInversions }: Pick<Adapters, 'loras' | 'textualInversions'>,
): VideoSettings {
  const { frames, width, height } = call
  const changed = Object.entries<Table[string]>(callOptions).flatMap(([name, option]) => {
    const value = call[name as keyof SizedCall]
    return value === undefined || value === option.default ? [] : [{ name, value, kept: option.kept }]
  })
  const values = changed.filter(({ kept }) => kept === 'value').map(({ name, value }) => [name, value])
  const inputs = changed.filter(({ kept }) => kept === 'name').map(({ name }) => name)
  const working = loras.filter(({ scale }) => scale !== 0)
  return {
    frames,
    width,
    height,
    schedulerConfig: recordable(scheduler.config ?? {}),
    ...Object.fromEntries(values),
    ...(working.length > 0 && {
      loras: working.map(({ file, scale }) => ({ file: path.basename(file), scale })),
    }),
    ...(textualInversions.length > 0 && {
      textualInversions: textualInversions.map(({ file, token }) => ({ file: path.basename(file), token })),
    }),
    ...(inputs.length > 0 && { inputs }),
  }
}

/** Leaves out values that JSON cannot hold: the default of lambda_min_clipped is -Infinity. */
function recordable(config: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(writtenValues(config)).filter(
      ([, value]) => typeof value !== 'number' || Number.isFinite(value),
    ),
  )
}
