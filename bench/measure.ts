/**
 * Measures torchreel as a user's program would run it, each time in a new process.
 *
 *     npm run bench -- --model MODEL [--peer PYTHON [--compile] [--no-eager]]   one video: stages, rates, memory
 *     npm run bench -- scaling --model MODEL                       several sizes: time per TFLOP, memory
 *     npm run bench -- busy --model MODEL [--peer PYTHON]          the loop beside none, one and two busy processes
 *     npm run bench -- start                                       import, and start to first step
 *     npm run bench -- approximate --model MODEL [--videos N]      time and quality of the approximate savings
 *     npm run bench -- pool --model MODEL                          gain of the memory pool
 *     npm run bench -- parts                                       layers compared with plain PyTorch
 *
 * MODEL is a checkpoint's folder, or one with random weights: random-32, random-64, random-128 or random-320 (the first width of a
 * UNet), wan-100m or wan-1.3b (the parameters of a transformer), made in build/bench/models with `python3`. PYTHON must have diffusers
 * and torch. Further options are below. Results are printed, and written to --output as result.json, result.md and chart.svg.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { approximate, approximateTable } from './approximate.js'
import { busy, busyTable } from './busy.js'
import { chart } from './chart.js'
import { contest } from './contest.js'
import { machine, productRate } from './machine.js'
import { benchModel } from './models.js'
import { pool, poolTable } from './pool.js'
import { python, repository } from './processes.js'
import { heading, report } from './report.js'
import { scaling, scalingTable } from './scaling.js'
import { start, startTable } from './start.js'
import type { Task } from './task.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    model: { type: 'string' },
    prompt: { type: 'string', default: 'Spiderman is surfing' },
    steps: { type: 'string', default: '25' },
    frames: { type: 'string', default: '16' },
    width: { type: 'string' },
    height: { type: 'string' },
    seed: { type: 'string', default: '0' },
    guidance: { type: 'string', default: '9' },
    videos: { type: 'string', default: '24' }, // for `approximate`
    runs: { type: 'string', default: '3' }, // videos of a process after the first
    rounds: { type: 'string', default: '3' }, // processes per contestant
    device: { type: 'string', default: 'cpu' },
    dtype: { type: 'string' },
    offload: { type: 'string', default: 'none' },
    'capture-graph': { type: 'boolean', default: false },
    variant: { type: 'string', multiple: true, default: [] }, // more contestants: capture-graph, offload
    'compiled-denoiser': { type: 'string' }, // one more contestant, with this file
    threads: { type: 'string' },
    libtorch: { type: 'string' },
    peer: { type: 'string' },
    eager: { type: 'boolean', default: true },
    compile: { type: 'boolean', default: false },
    output: { type: 'string', default: path.join(repository, 'build', 'bench', 'result') },
  },
})
const [mode = 'video'] = positionals
const number = (text: string | undefined) => (text === undefined ? undefined : Number(text))
const settings = {
  ...{ prompt: values.prompt, seed: Number(values.seed), runs: Number(values.runs) },
  guidanceScale: Number(values.guidance),
  ...{ device: values.device, threads: number(values.threads), libtorch: values.libtorch },
  dtype: (values.dtype ?? (values.device === 'cpu' ? 'float32' : 'float16')) as Task['dtype'],
  offload: values.offload as Task['offload'],
  captureGraph: values['capture-graph'],
}
const command = ['npm run bench --', ...process.argv.slice(2)].join(' ')

async function video(): Promise<{ json: unknown; text: string; svg?: string }> {
  const task = {
    ...settings,
    ...{ steps: Number(values.steps), frames: Number(values.frames) },
    ...{ width: number(values.width), height: number(values.height) },
  }
  const json = await contest(await model(), task, {
    ...{ peer: values.peer, eager: values.eager, compile: values.compile, variants: values.variant },
    compiledDenoiser: values['compiled-denoiser'],
    rounds: Number(values.rounds),
  })
  return { json, text: report(json, command), svg: chart(json) }
}

async function severalSizes() {
  const product = await productRate(settings.device, settings.dtype)
  const costs = await scaling(await model(), settings)
  const head = heading(`${values.model}: ${settings.dtype}, ${settings.device}`, machine(), product, command)
  return {
    json: { machine: { ...machine(), product }, command, costs },
    text: `${head}\n\n${scalingTable(costs)}`,
  }
}

async function beside() {
  const sizes = { frames: Number(values.frames), width: number(values.width), height: number(values.height) }
  const task = { ...settings, ...sizes, steps: Number(values.steps) }
  const loops = await busy(await model(), task, values.peer, Number(values.rounds))
  const what = `${values.model}: ${task.frames} frames, ${task.steps} steps, ${task.dtype}, ${task.device}`
  const head = heading(what, machine(), undefined, command)
  return { json: { machine: machine(), command, loops }, text: `${head}\n\n${busyTable(loops)}` }
}

async function starting() {
  const times = await start(Number(values.rounds))
  const head = heading(`Starting, ${values.rounds} times`, machine(), undefined, command)
  return { json: { machine: machine(), command, times }, text: `${head}\n\n${startTable(times)}` }
}

async function lessExact() {
  const { prompt, steps, videos } = values
  // Default: the model's own guidance.
  const given = process.argv.some((word) => word.startsWith('--guidance'))
  const guidanceScale = given ? settings.guidanceScale : undefined
  const sizes = { frames: Number(values.frames), width: number(values.width), height: number(values.height) }
  const call = { ...sizes, guidanceScale }
  const { device, dtype, offload, threads, libtorch } = settings
  const pipeline = { device, dtype, offload, threads, libtorch }
  const task = { prompt, steps: Number(steps), videos: Number(videos), call, pipeline }
  const savings = await approximate(await model(), task)
  const head = heading(`${values.model}: ${videos} videos each`, machine(), undefined, command)
  return { json: { machine: machine(), command, savings }, text: `${head}\n\n${approximateTable(savings)}` }
}

async function pooled() {
  const runs = await pool(await model(), Number(values.rounds))
  const head = heading(`${values.model}: the pool for large tensors`, machine(), undefined, command)
  return { json: { machine: machine(), command, runs }, text: `${head}\n\n${poolTable(runs)}` }
}

/** See parts.py. */
async function layers() {
  const head = heading('Layers', machine(), await productRate('cpu', 'float32'), command)
  return { json: { machine: machine(), command }, text: `${head}\n\n${await python('bench/parts.py', [])}` }
}

function model() {
  if (!values.model)
    throw new Error(
      '--model is required: a folder, random-32, random-64, random-128, random-320, wan-100m or wan-1.3b',
    )
  return benchModel(values.model)
}

const modes = {
  video,
  scaling: severalSizes,
  busy: beside,
  start: starting,
  approximate: lessExact,
  pool: pooled,
  parts: layers,
}
if (!(mode in modes)) throw new Error(`unknown mode ${mode}; use one of ${Object.keys(modes).join(', ')}`)
const { json, text, svg } = await (modes[mode as keyof typeof modes] as typeof video)()
await mkdir(values.output, { recursive: true })
await writeFile(path.join(values.output, 'result.json'), `${JSON.stringify(json, null, 2)}\n`)
await writeFile(path.join(values.output, 'result.md'), `${text}\n`)
if (svg) await writeFile(path.join(values.output, 'chart.svg'), svg)
console.log(`${text}\n\nin ${values.output}`)
