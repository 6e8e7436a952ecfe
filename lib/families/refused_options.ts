import type { Options } from '../checks/options.js'
import { TorchreelError } from '../errors.js'
import type { Family } from './family.js'

/**
 * Refuses options that a family cannot honour, unless they are at their defaults.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function refuseForFamily(options: object, table: Options, family: Family): void {
  for (const [name, why] of Object.entries(family.refusedOptions)) {
    if (!Object.hasOwn(table, name)) continue
    const value = (options as Record<string, unknown>)[name]
    if (value === undefined || value === table[name]?.default) continue
    throw new TorchreelError('ERR_INVALID_ARGUMENT', `${name} cannot be used with ${family.title}: ${why}`, {
      parameter: name,
      expected: `no ${name} with ${family.title}`,
      received: value,
    })
  }
}
