import { spawn } from 'node:child_process'

/**
 * Runs a program and hands on what it says.
 *
 * @returns its stdout
 * @throws Error with its last words when it fails
 */
export async function run(
  command: string,
  parameters: readonly string[],
  onOutput: (chunk: string) => void,
  signal?: AbortSignal,
): Promise<string> {
  const child = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'], ...(signal && { signal }) })
  let stdout = ''
  let tail = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      onOutput(chunk)
      tail = (tail + chunk).slice(-2000)
      if (stream === child.stdout) stdout += chunk
    })
  }
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, ending) => {
      if (code === 0) return resolve()
      const words = tail.trim().split('\n').slice(-3).join(' ')
      reject(new Error(words || `${command} ended with ${ending ?? `exit code ${code}`}`))
    })
  })
  return stdout
}
