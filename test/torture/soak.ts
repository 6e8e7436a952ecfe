// npm run test:soak [JOBS]: good, failing and aborted jobs in turn, and the memory they leave, as a curve. Ends with 1 if the
// second half of the jobs grew by more than a few MB.
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { TextToVideoPipeline } from 'torchreel'
import { tinyCheckpoint } from '../support/fixtures.js'

const jobs = Number(process.argv[2] ?? 300)
const most = 16e6 // bytes that the second half may grow by: the allocators' own fragments
const options = { steps: 2, frames: 2, seed: 1 }
const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
const golden = await pipeline.generate('a panda', options)

/** Good, failing in the job, failing in a listener, aborted while it waits, aborted in a step; every tenth loads anew. */
async function run(job: number): Promise<void> {
  if (job % 10 === 9)
    await (await TextToVideoPipeline.fromPretrained(tinyCheckpoint, { dtype: 'bfloat16' })).dispose()
  const controller = new AbortController()
  const { signal } = controller
  const throwing = () => {
    throw new Error('from the listener')
  }
  const kinds = [
    () => pipeline.generate('a panda', options),
    () => pipeline.generate('a panda', { ...options, latents: broken }),
    () => pipeline.generate('a panda', { ...options, onProgress: throwing }),
    () => {
      const waiting = pipeline.generate('a panda', { ...options, signal })
      controller.abort()
      return waiting
    },
    () =>
      pipeline.generate('a panda', {
        ...{ ...options, signal, steps: 20 },
        onProgress: ({ stage, step }) => void (stage === 'denoise' && step === 1 && controller.abort()),
      }),
  ]
  const kind = job % kinds.length
  const outcome = await (kinds[kind] as () => Promise<unknown>)().then(
    () => 'made',
    (error) => error.code ?? error.name,
  )
  const wanted = ['made', 'ERR_NUMERIC', 'Error', 'AbortError', 'AbortError'][kind]
  if (outcome !== wanted && outcome !== 20) throw new Error(`job ${job} ended with ${outcome}, not ${wanted}`)
}

const broken = { data: new Float32Array(512).fill(Number.NaN), shape: [1, 4, 2, 8, 8] }
const count = (folder: string) => readdirSync(`/proc/self/${folder}`).length

async function measure(job: number) {
  globalThis.gc?.()
  await setTimeout(10)
  globalThis.gc?.()
  const resident = 4096 * Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1])
  const { heapUsed, external } = process.memoryUsage()
  return { job, resident, heapUsed, external, files: count('fd'), threads: count('task') }
}

const curve: Awaited<ReturnType<typeof measure>>[] = []
console.log('   job  resident MB  heap MB  external MB  files  threads')
for (let job = 0; job <= jobs; job++) {
  if (job % Math.ceil(jobs / 15) === 0) {
    const point = await measure(job)
    curve.push(point)
    const megabytes = (bytes: number, width: number) => (bytes / 1e6).toFixed(1).padStart(width)
    console.log(
      `${String(job).padStart(6)}${megabytes(point.resident, 13)}${megabytes(point.heapUsed, 9)}` +
        `${megabytes(point.external, 13)}${String(point.files).padStart(7)}${String(point.threads).padStart(9)}`,
    )
  }
  await run(job)
}
const half = curve[Math.floor(curve.length / 2)] as (typeof curve)[number]
const end = await measure(jobs)
const grown = end.resident - half.resident
const same = (await pipeline.generate('a panda', options)).data.every(
  (value, index) => value === golden.data[index],
)
const held =
  end.files <= half.files && end.threads <= half.threads && Math.abs(end.external - half.external) < 2e6
console.log(
  `jobs run: ${jobs}; the second half grew by ${(grown / 1e6).toFixed(1)} MB; golden frames: ${same}`,
)
await pipeline.dispose()
if (grown > most || !same || !held) process.exitCode = 1
