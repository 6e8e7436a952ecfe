import { spawn } from 'node:child_process'
import { tinyCheckpoint } from './fixtures.js'

/** How a child process ended and what it said. */
export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Starts `node` on the body of an async program; `pipeline` and `torchreel` stand ready in it. */
export function startProgram(body: string, parameters: string[] = []) {
  const program = `
    import * as torchreel from 'torchreel'
    const pipeline = await torchreel.TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)})
    ${body}`
  return startNode([...parameters, '--input-type=module', '-e', program])
}

/** Starts `node` and gathers what it says. */
export function startNode(
  parameters: string[],
  environment: NodeJS.ProcessEnv = process.env,
  folder: string = process.cwd(),
) {
  const child = spawn(process.execPath, parameters, {
    ...{ stdio: ['ignore', 'pipe', 'pipe'], env: environment, cwd: folder },
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk
  })
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  return { child, ended }
}
