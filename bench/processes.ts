import { type ExecFileException, execFile } from 'node:child_process'
import { cpus } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Measured, Task } from './task.js'

const run = promisify(execFile)

/** The repository, seen from build/bench. */
export const repository = fileURLToPath(new URL('../../', import.meta.url))

/** Runs a command and returns its stdout. Shows its stderr only if it fails. */
export async function output(
  command: string,
  parameters: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<string> {
  try {
    const { stdout } = await run(command, parameters, {
      cwd: repository, // where `import 'torchreel'` finds it
      env: { ...process.env, ...environment },
      maxBuffer: 64 << 20,
    })
    return stdout
  } catch (error) {
    const { stderr, message } = error as ExecFileException
    throw new Error(`${command} failed: ${stderr || message}`)
  }
}

/** Runs a script with `python3` and the Python part of the libtorch that `torchreel setup` installed. */
export async function python(script: string, parameters: readonly string[]): Promise<string> {
  const libtorch = await output(process.execPath, [path.join(repository, 'dist', 'cli', 'main.js'), 'setup'])
  const environment = { PYTHONPATH: path.dirname(libtorch.trim()) }
  return output('python3', ['-W', 'ignore', path.join(repository, script), ...parameters], environment)
}

/** The measurements of a process, and the fraction of processor time that went to other programs, 0 to 1. */
export interface Observed extends Measured {
  readonly elsewhere: number
}

/** A program that makes videos. */
export interface Contestant {
  readonly name: string
  measure(task: Omit<Task, 'started'>): Promise<Observed>
}

export const torchreel: Contestant = {
  name: 'torchreel',
  measure: (task) => measured(process.execPath, [`${repository}build/bench/program.js`], task),
}

/** torchreel with other options than the task's, as one more contestant. */
export const variants: Readonly<Record<string, Contestant>> = {
  'capture-graph': variant('captureGraph', { captureGraph: true }),
  offload: variant("offload 'model'", { offload: 'model' }),
}

/** torchreel with a compiled denoiser from models/export.py --compile; on a GPU also with recorded steps. */
export function compiled(file: string, device: string): Contestant[] {
  const compiledDenoiser = path.resolve(file)
  const recorded = variant('compiledDenoiser and captureGraph', { compiledDenoiser, captureGraph: true })
  return [variant('compiledDenoiser', { compiledDenoiser }), ...(device === 'cpu' ? [] : [recorded])]
}

function variant(name: string, change: Partial<Task>): Contestant {
  return { name: `torchreel, ${name}`, measure: (task) => torchreel.measure({ ...task, ...change }) }
}

/** diffusers, in a Python that has it. */
export function peer(python: string, compile: boolean): Contestant {
  return {
    name: compile ? 'diffusers, torch.compile' : 'diffusers',
    measure: (task) => measured(python, ['-W', 'ignore', `${repository}bench/peer.py`], { ...task, compile }),
  }
}

async function measured(command: string, program: string[], task: object): Promise<Observed> {
  const before = processorTimes()
  const printed = await output(command, [...program, JSON.stringify({ ...task, started: Date.now() })])
  const measured = JSON.parse(printed.trim().split('\n').at(-1) as string) as Measured
  const after = processorTimes()
  const elsewhere = (after.busy - before.busy - measured.processorMs) / (after.all - before.all)
  return { ...measured, elsewhere: Math.max(0, elsewhere) }
}

/** The busy time of all processors since the machine started, in milliseconds. */
function processorTimes(): { busy: number; all: number } {
  const times = cpus().map(({ times }) => times)
  const busy = times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0)
  return { busy, all: times.reduce((sum, { idle }) => sum + idle, busy) }
}
