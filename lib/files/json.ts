import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { TorchreelError } from '../errors.js'

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
    text = await readText(file)
  } catch (error) {
    const absent = ((error as Error).cause as NodeJS.ErrnoException)?.code === 'ENOENT'
    if (absent && missing) return missing as Record<string, unknown>
    throw error
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

const longestText = 2 ** 26 // bytes; the longest file of a published checkpoint, UMT5's tokenizer.json, has 2^24

/**
 * Reads a text file of a checkpoint: a regular one, since a stranger's folder may hold pipes, which never end, and devices.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT`
 */
export async function readText(file: string): Promise<string> {
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    const status = await handle.stat()
    if (status.isFile() && status.size <= longestText) return await handle.readFile('utf8')
    const reason = status.isFile() ? `longer than ${longestText} bytes` : 'not a regular file'
    throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is ${reason}`, { path: file })
  } catch (error) {
    if (error instanceof TorchreelError) throw error
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw new TorchreelError('ERR_MODEL_NOT_FOUND', `${file} ${absent ? 'is missing' : 'cannot be read'}`, {
      path: file,
      cause: error,
    })
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
