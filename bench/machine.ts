import { cpus, totalmem } from 'node:os'
import path from 'node:path'
import { output, repository } from './processes.js'

/** The rate of large matrix products in FLOP/s: see product_rate.cc. */
export interface ProductRate {
  readonly median: number
  readonly best: number
  readonly size: number
  readonly threads: number
}

export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly memoryBytes: number
}

export function machine(): Machine {
  return { processor: cpus()[0]?.model ?? 'unknown', cores: cpus().length, memoryBytes: totalmem() }
}

/** Measures the rate with the libtorch that this clone is built for, in build/cmake or `TORCHREEL_BUILD`. */
export async function productRate(device: string, dtype: string): Promise<ProductRate> {
  const build = process.env.TORCHREEL_BUILD ?? path.join(repository, 'build', 'cmake')
  const program = path.join(build, 'bench', 'product_rate')
  return JSON.parse(await output(program, [device, dtype])) as ProductRate
}
