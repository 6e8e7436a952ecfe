import { spawn } from 'node:child_process'
import { tinyCheckpoint } from './fixtures.js'

/** The exit of a child process and its output. */
export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Starts `node` with the body of an async program, which can use `pipeline` and `torchreel`. */
export function startProgram(body: string, parameters: string[] = []) {
  const program = `
    import * as torchreel from 'torchreel'
    const pipeline = await torchreel.TextToVideoPipeline.fromPretrained(${JSON.stringify(tinyCheckpoint)})
    ${body}`
  return startNode([...parameters, '--input-type=module', '-e', program])
}

/** Starts `node` and collects its output. */
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
