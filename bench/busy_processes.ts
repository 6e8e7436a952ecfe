import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/** Starts processes that never wait. They inherit this process's priority, as the measured ones do. */
export async function busyProcesses(count: number): Promise<AsyncDisposable> {
  const children: ChildProcess[] = []
  for (let started = 0; started < count; started++) {
    const child = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' })
    await once(child, 'spawn')
    children.push(child)
  }
  return {
    [Symbol.asyncDispose]: async () => {
      for (const child of children) {
        const gone = once(child, 'exit')
        child.kill('SIGKILL')
        await gone
      }
    },
  }
}
