import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

const hostPart = createHash('sha256').update(hostname()).digest('hex').slice(0, 8)

/** `HOST-PID-START`: this process among all that ever run on all machines that share a disk. Fits into a file name. */
export const ownIdentity = `${hostPart}-${process.pid}-${startOf(process.pid) ?? 0}`

/** What an identity in a file name looks like. */
export const identityPattern = '[0-9a-f]{8}-\\d+-\\d+'

/** Whether the process has ended for certain. Of another machine's processes nothing is known. */
export function isDead(identity: string): boolean {
  const [host, pid, start] = identity.split('-') as [string, string, string]
  if (host !== hostPart) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true
  }
  // A process number is used again; together with its start time it is not.
  const startNow = startOf(Number(pid))
  return start !== '0' && startNow !== undefined && startNow !== start
}

/** When a process started, in clock ticks since boot: field 22 of /proc/PID/stat. Undefined where there is no /proc. */
function startOf(pid: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // Field 2, the name, is in parentheses and may hold anything; field 3 follows the last one.
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
