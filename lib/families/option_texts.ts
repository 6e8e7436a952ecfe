import type { Table } from '../checks/options.js'
import { families } from './families.js'
import type { Family } from './family.js'

// What the texts of options say of families.

/** A default in words where it depends on the family: `16 (Wan models: 81)`. The first family's has no name. */
export function defaultByFamily(defaultOf: (family: Family) => unknown): string {
  const [first, ...others] = families.map((family) => ({
    title: family.title,
    value: `${defaultOf(family)}`,
  }))
  const different = others.filter(({ value }) => value !== first?.value)
  const exceptions = different.map(({ title, value }) => `${title} models: ${value}`).join(', ')
  return exceptions === '' ? `${first?.value}` : `${first?.value} (${exceptions})`
}

/** A table of options whose texts name the families that refuse an option: `…; not for Wan`. */
export function withRefusals<T extends Table>(table: T): T {
  const entries = Object.entries(table).map(([name, option]) => {
    const refusing = families.filter(({ refusedOptions }) => Object.hasOwn(refusedOptions, name))
    if (refusing.length === 0) return [name, option]
    const not = `; not for ${refusing.map(({ title }) => title).join(' and ')}`
    const { says, flagSays } = option
    return [
      name,
      { ...option, says: says + not, ...(flagSays !== undefined && { flagSays: flagSays + not }) },
    ]
  })
  return Object.fromEntries(entries)
}
