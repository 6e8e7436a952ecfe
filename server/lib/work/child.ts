import { writeFileSync } from 'node:fs'
import { TorchreelError } from 'torchreel'
import { openFiles } from '../files/place.js'
import { errorOf } from '../jobs/jobs.js'
import { aliveEvery, type FromChild, type LoadOptions, type ToChild } from './messages.js'
import type { Runner, RunnerOptions } from './run_job.js'

// The process that holds the pipelines. It loads them, runs the jobs that the server sends, one at a time, and ends with the
// server.

const send = (message: FromChild) => process.send?.(message)

// Not `exit`: that waits for the running step of a job, which may take a minute.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
// Ctrl-C reaches the whole group; the server decides what becomes of the job.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => {})
process.umask(0o077)
try {
  writeFileSync('/proc/self/oom_score_adj', '500') // if memory runs out, this process goes, not the server
} catch {}
setInterval(() => send({ type: 'alive' }), aliveEvery).unref()

const cancels = new Map<string, AbortController>()
let runner: Runner | undefined

process.on('message', (message: ToChild) => {
  if (message.type === 'load') void load(message.options)
  else if (message.type === 'run') void run(message.job)
  else cancels.get(message.id)?.abort(new Error('cancelled'))
})

/** A failure ends the process: what Node writes of it is its last words. */
async function load({ runner: module, place, ...options }: LoadOptions): Promise<void> {
  const { loadRunner }: { loadRunner(options: RunnerOptions): Promise<Runner> } = await import(module)
  try {
    runner = await loadRunner({ ...options, files: openFiles(place) })
  } catch (error) {
    if (!(error instanceof TorchreelError)) throw error
    const { message } = error
    process.stderr.write(`${message}\n`)
    process.send?.({ type: 'unloadable', message } satisfies FromChild, () => process.exit(1))
    return
  }
  send({ type: 'loaded', models: runner.models })
}

async function run(job: Parameters<Runner['run']>[0]): Promise<void> {
  const { id } = job
  const cancel = new AbortController()
  cancels.set(id, cancel)
  try {
    const made = await (runner as Runner).run(job, {
      signal: cancel.signal,
      progress: (progress) => send({ type: 'progress', id, progress }),
      preview: () => send({ type: 'preview', id }),
    })
    send({ type: 'made', id, made })
  } catch (error) {
    send({ type: 'failed', id, error: errorOf(error) })
  } finally {
    cancels.delete(id)
  }
}
