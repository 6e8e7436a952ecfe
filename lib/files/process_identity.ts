import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

const hostPart = createHash('sha256').update(hostname()).digest('hex').slice(0, 8)

/** `HOST-PID-START`: unique among all processes of all machines that share a disk, and valid in a file name. */
export const ownIdentity = `${hostPart}-${process.pid}-${startTime(process.pid) ?? 0}`

/** The pattern of an identity in a file name. */
export const identityPattern = '[0-9a-f]{8}-\\d+-\\d+'

/** Whether the process has certainly ended. Processes of other machines count as alive. */
export function isDead(identity: string): boolean {
  const [host, pid, start] = identity.split('-') as [string, string, string]
  if (host !== hostPart) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return true
  }
  // Process numbers are reused, but not with the same start time.
  const startNow = startTime(Number(pid))
  return start !== '0' && startNow !== undefined && startNow !== start
}

/** The start time of a process in clock ticks since boot: field 22 of /proc/PID/stat. Undefined without /proc. */
function startTime(pid: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // Field 2, the name, is in parentheses and may hold anything; field 3 follows the last one.
    return status.slice(status.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
