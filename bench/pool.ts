import path from 'node:path'
import type { BenchModel } from './models.js'
import { output, repository } from './processes.js'
import { megabytes, table } from './report.js'

/** The output of one process, for three calls of a network. See pool.cc. */
interface PoolRun {
  readonly network: 'unet' | 'vae'
  readonly memory: 'malloc' | 'pool'
  readonly calls: readonly { readonly pageFaults: number; readonly user: number; readonly system: number }[]
  readonly peakBytes: number
}

/** Runs the UNet and the VAE with and without the memory pool, each in a new process, in turns. */
export async function pool(model: BenchModel, rounds: number): Promise<PoolRun[]> {
  const runs: PoolRun[] = []
  const program = path.join(repository, 'build', 'cmake', 'bench', 'pool')
  for (let round = 0; round < rounds; round++) {
    for (const network of ['unet', 'vae'] as const) {
      for (const memory of ['malloc', 'pool'] as const) {
        const graph = path.join(model.folder, 'graphs', `${network}.pt`)
        const weights = path.join(model.folder, network, 'diffusion_pytorch_model.safetensors')
        const size = String(model.textSize)
        // As the addon sets it: idle threads sleep soon.
        const environment = { GOMP_SPINCOUNT: '3000' }
        const printed = await output(program, [network, graph, weights, size, memory], environment)
        runs.push({ network, memory, ...(JSON.parse(printed) as Pick<PoolRun, 'calls' | 'peakBytes'>) })
      }
    }
  }
  return runs
}

/** The first and the third call, with all rounds side by side. */
export function poolTable(runs: readonly PoolRun[]): string {
  const rows = [
    ['unet', 0, 'UNet, first step'],
    ['unet', 2, 'UNet, third step'],
    ['vae', 2, 'VAE, third frame'],
  ] as const
  return table(
    ['', 'page faults', 'seconds, user + system', 'peak of resident memory'],
    rows.flatMap(([network, call, name]) =>
      (['malloc', 'pool'] as const).map((memory) => {
        const of = runs.filter((run) => run.network === network && run.memory === memory)
        const each = (cell: (run: PoolRun) => string) => of.map(cell).join(' · ')
        return [
          `${name}, ${memory}`,
          each(({ calls }) => (calls[call]?.pageFaults ?? Number.NaN).toLocaleString('en')),
          each(({ calls }) => `${calls[call]?.user.toFixed(2)} + ${calls[call]?.system.toFixed(2)}`),
          call === 0 ? '' : each(({ peakBytes }) => megabytes(peakBytes)),
        ]
      }),
    ),
  )
}
