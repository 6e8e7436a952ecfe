/** The flags of node that allow what its permission model refuses, by the names in its errors. */
const flags: Readonly<Record<string, string>> = {
  FileSystemRead: '--allow-fs-read',
  FileSystemWrite: '--allow-fs-write',
  ChildProcess: '--allow-child-process',
  Net: '--allow-net',
}

/**
 * Which flag allows what Node's permission model refused. Undefined: the error is another.
 *
 * @param place the file or folder to allow; default: the one that was refused
 */
export function refusedPermission(error: unknown, place?: string): string | undefined {
  const { code, permission, resource } = (error ?? {}) as Record<string, string | undefined>
  const flag = code === 'ERR_ACCESS_DENIED' ? flags[permission ?? ''] : undefined
  if (flag === undefined) return undefined
  const value = flag.startsWith('--allow-fs') ? `=${place ?? resource}` : ''
  return `Node’s permission model refuses it; start node with ${flag}${value}`
}
