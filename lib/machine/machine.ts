import { execFile } from 'node:child_process'
import { statfs } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { TorchreelError } from '../errors.js'
import { readSystemFile } from './system_file.js'

/** NVIDIA's driver and its GPUs. */
export interface Nvidia {
  /** Such as `580.65.06`. */
  readonly driver: string
  /** Empty without nvidia-smi. */
  readonly gpus: readonly Gpu[]
}

export interface Gpu {
  readonly name: string
  readonly memoryBytes: number
  /** Such as 9 for Hopper and 7.5 for Turing. */
  readonly computeCapability: number
}

/** Why torchreel does not run on a platform. Undefined: it does. */
export function platformProblem(
  platform: string = process.platform,
  arch: string = process.arch,
  glibc: string | undefined = glibcVersion(),
): string | undefined {
  if (platform !== 'linux' || arch !== 'x64')
    return `torchreel runs on linux-x64; this is ${platform}-${arch}`
  if (!glibc) return 'torchreel needs glibc; this Linux has another libc, such as musl on Alpine'
  return undefined
}

/** @throws TorchreelError `ERR_NATIVE_LOAD` with the reason */
export function requirePlatform(): void {
  const problem = platformProblem()
  if (problem) throw new TorchreelError('ERR_NATIVE_LOAD', problem)
}

/** Such as `2.36`; undefined with another libc. */
export function glibcVersion(): string | undefined {
  const { report } = process
  const { excludeNetwork } = report as { excludeNetwork?: boolean }
  Object.assign(report, { excludeNetwork: true }) // looking up names of interfaces may take seconds
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } }
  Object.assign(report, { excludeNetwork })
  return header.glibcVersionRuntime
}

/** The instruction sets of this processor that libtorch has kernels for. Undefined: this process may not read /proc. */
export function instructionSets(): string[] | undefined {
  const text = readSystemFile('/proc/cpuinfo')
  if (text === undefined) return undefined
  const flags = text.match(/^flags\s*:(.*)$/m)?.[1]?.split(' ') ?? []
  const named = { avx2: 'AVX2', avx512f: 'AVX-512', avx512_bf16: 'AVX-512 BF16', amx_tile: 'AMX' }
  return Object.entries(named).flatMap(([flag, name]) => (flags.includes(flag) ? [name] : []))
}

/** Asks nvidia-smi, else reads the driver's file in /proc. Undefined: no driver. */
export async function findNvidia(): Promise<Nvidia | undefined> {
  const query = ['--query-gpu=driver_version,name,memory.total,compute_cap', '--format=csv,noheader,nounits']
  for (const command of ['nvidia-smi', '/usr/lib/wsl/lib/nvidia-smi']) {
    const answer = await promisify(execFile)(command, query, { timeout: 20_000 }).catch(() => undefined)
    const rows = (answer?.stdout ?? '').trim().split('\n').filter(Boolean)
    const gpus = rows.map((row) => row.split(',').map((cell) => cell.trim()))
    const driver = gpus[0]?.[0]
    if (!driver) continue
    return {
      driver,
      gpus: gpus.map(([, name = '', mebibytes, capability]) => ({
        name,
        memoryBytes: Number(mebibytes) * 2 ** 20,
        computeCapability: Number(capability),
      })),
    }
  }
  const text = readSystemFile('/proc/driver/nvidia/version') ?? ''
  const driver = /Kernel Module.*?\s(\d+\.[\d.]+)/.exec(text)?.[1]
  return driver === undefined ? undefined : { driver, gpus: [] }
}

/** Free bytes on the disk of a folder, which need not exist yet. */
export async function freeBytes(folder: string): Promise<number> {
  for (let existing = path.resolve(folder); ; existing = path.dirname(existing)) {
    const status = await statfs(existing).catch(() => undefined)
    if (status) return status.bavail * status.bsize
    if (existing === path.dirname(existing)) return 0
  }
}
