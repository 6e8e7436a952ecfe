import { TorchreelError } from '../errors.js'
import { readRegularFile } from './regular_file.js'

/**
 * Reads a JSON object from a checkpoint. Files that Python saved may hold `NaN` and `Infinity`, which are not JSON:
 * `"lambda_min_clipped": -Infinity` is common in scheduler_config.json.
 *
 * @param missing the result if there is no such file
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND` for a missing file, `ERR_MODEL_CORRUPT` for anything but a JSON object
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
    throw new TorchreelError(
      'ERR_MODEL_CORRUPT',
      `${file} is not a JSON object: ${(error as Error).message}`,
      {
        path: file,
        cause: error,
      },
    )
  }
}

/** Looks for Python's numbers only if plain JSON fails: the search takes many times as long. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return JSON.parse(text.replace(pythonNumbers, quoted), revived)
  }
}

const maxTextBytes = 2 ** 26 // the largest file of a published checkpoint, tokenizer.json, has 17 MB

/**
 * Reads a text file of a checkpoint, with the line ends of any system and without a byte order mark.
 *
 * @throws TorchreelError `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_CORRUPT` for a file that is not regular, or too long
 */
export async function readText(file: string): Promise<string> {
  return readRegularFile(file, async (handle) => {
    if ((await handle.stat()).size > maxTextBytes) {
      throw new TorchreelError('ERR_MODEL_CORRUPT', `${file} is longer than ${maxTextBytes} bytes`, {
        path: file,
      })
    }
    const text = await handle.readFile('utf8')
    return text.replace(/^\ufeff/, '').replaceAll('\r\n', '\n')
  })
}

/** Strings, which are left alone, and Python's numbers outside them. */
const pythonNumbers = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g
const mark = '\u0000number:'

function quoted(token: string): string {
  return token.startsWith('"') ? token : JSON.stringify(mark + token)
}

function revived(_key: string, value: unknown): unknown {
  return typeof value === 'string' && value.startsWith(mark) ? Number(value.slice(mark.length)) : value
}
