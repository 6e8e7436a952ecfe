import { InvalidArgumentError, Option } from 'commander'
import type { DescribedOption, Table } from '../checks/options.js'

/** An option of the command line, with its help, from its description. It must have a flag. */
export function commandOption(described: DescribedOption): Option {
  const { flag = '', kind, group, repeats } = described
  const option = new Option(flag, helpOf(described)).helpGroup(`${group}:`)
  const { fromText } = kind
  if (!fromText) return option
  return option.argParser((text, before: unknown) => {
    try {
      const value = fromText(text)
      return repeats ? [...((before as unknown[] | undefined) ?? []), value] : value
    } catch (error) {
      if (error instanceof SyntaxError) throw new InvalidArgumentError(error.message)
      throw error
    }
  })
}

/** The options of a table that the command line gave, by their names in a program. Ranges are not checked yet. */
export function readOptions(given: object, table: Table): Record<string, unknown> {
  const values = given as Readonly<Record<string, unknown>>
  return Object.fromEntries(
    Object.entries(table).flatMap(([name, { flag }]) => {
      const value = flag === undefined ? undefined : values[new Option(flag).attributeName()]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/** Such as `denoising steps (default: 25)`. */
function helpOf({ says, flagSays, otherwise, default: value }: DescribedOption): string {
  const text = otherwise?.replaceAll('`', '') ?? (typeof value === 'boolean' ? undefined : value)
  return `${flagSays ?? says}${text === undefined ? '' : ` (default: ${text})`}`
}
