import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { output, repository, torchreel } from './processes.js'
import { seconds, table } from './report.js'
import { type Spread, spread } from './statistics.js'

/** Start times in milliseconds. */
export interface Start {
  /** `import 'torchreel'` in a new process. */
  readonly import: Spread
  /** Node.js alone, up to the first line of a program. */
  readonly node: Spread
  /** The model in the package: from the start of the process to the end of the first denoising step. */
  readonly firstStep: Spread
  readonly load: Spread
}

const importProgram = `
  const started = performance.now()
  await import('torchreel')
  console.log(JSON.stringify([started, performance.now() - started]))`

/** Starts processes one after the other. The first one fills the system's caches and does not count. */
export async function start(rounds: number): Promise<Start> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'torchreel-bench-'))
  const imports: [number, number][] = []
  const runs: { firstStepMs: number; loadMs: number }[] = []
  try {
    for (let round = 0; round <= rounds; round++) {
      const printed = await output(process.execPath, ['--input-type=module', '-e', importProgram])
      const measured = await torchreel.measure({
        model: path.join(repository, 'models', 'shapes'),
        ...{
          prompt: 'a big red circle moving left',
          seed: 1,
          guidanceScale: 3,
          steps: 1,
          frames: 16,
          runs: 0,
        },
        ...{ device: 'cpu', dtype: 'float32', offload: 'none', trustGraph: false },
        output: path.join(scratch, 'video.mp4'),
      })
      if (round === 0) continue
      imports.push(JSON.parse(printed) as [number, number])
      runs.push(measured)
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  return {
    import: spread(imports.map(([, milliseconds]) => milliseconds)),
    node: spread(imports.map(([milliseconds]) => milliseconds)),
    firstStep: spread(runs.map(({ firstStepMs }) => firstStepMs)),
    load: spread(runs.map(({ loadMs }) => loadMs)),
  }
}

export function startTable(start: Start): string {
  const row = (name: string, { median, lowest, highest }: Spread) => [
    name,
    seconds(median),
    seconds(lowest),
    seconds(highest),
  ]
  return table(
    ['', 'median', 'lowest', 'highest'],
    [
      row("Node.js's own start", start.node),
      row("`import 'torchreel'`", start.import),
      row('shapes: loading, libtorch included', start.load),
      row('shapes: process start to first step', start.firstStep),
    ],
  )
}
