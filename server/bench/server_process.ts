import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('./measured_server.js', import.meta.url))

/** Starts a server in a process of its own. */
export async function startServer(data: string, kind: string): Promise<{ child: ChildProcess; url: string }> {
  const child = fork(program, [data, kind], { execArgv: ['--expose-gc'] })
  const [url] = (await once(child, 'message')) as [string]
  for (;;) {
    const response = await fetch(`${url}/readyz`)
    await response.body?.cancel()
    if (response.ok) return { child, url }
    await wait(50)
  }
}
