import { readFile } from 'node:fs/promises'
import { TorchreelError } from './errors.js'

/**
 * Reads a JSON object from a checkpoint. Files that Python saved may hold `NaN` and `Infinity`, which JSON has not:
 * `"lambda_min_clipped": -Infinity` is common in scheduler_config.json.
 *
 * @param missing what to give when there is no such file
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND` for a missing file, `ERR_MODEL_CORRUPT` for what is no JSON object
 */
export async function readJson(file: string, missing?: object): Promise<Record<string, unknown>> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    if (absent && missing) return missing as Record<string, unknown>
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} ${absent ? 'is missing' : 'cannot be read'}`, {
      path: file,
      cause: error,
    })
  }
  try {
    const value: unknown = parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>
    throw new SyntaxError('it is not an object')
  } catch (error) {
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is no JSON object: ${(error as Error).message}`, {
      path: file,
      cause: error,
    })
  }
}

/** Python's numbers are looked for only where they must be: that takes many times as long. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return JSON.parse(text.replace(pythonNumbers, quoted), revived)
  }
}

/** Strings, so that what stands in them is left alone, and Python's numbers outside of them. */
const pythonNumbers = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g
const mark = '\u0000number:'

function quoted(token: string): string {
  return token.startsWith('"') ? token : JSON.stringify(mark + token)
}

function revived(_key: string, value: unknown): unknown {
  return typeof value === 'string' && value.startsWith(mark) ? Number(value.slice(mark.length)) : value
}
