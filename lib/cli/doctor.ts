import { cpus, totalmem } from 'node:os'
import { Command } from 'commander'
import { listModels } from '../hub/cached_models.js'
import { findHubCache } from '../hub/environment.js'
import { addonFile, coreVersions } from '../machine/addon_files.js'
import { cacheAdvice, findCacheFolder } from '../machine/cache.js'
import { findLibtorch, libtorchAdvice, variantOf } from '../machine/libtorch.js'
import {
  findNvidia,
  freeBytes,
  glibcVersion,
  instructionSets,
  type Nvidia,
  platformProblem,
} from '../machine/machine.js'
import { chooseThreads } from '../machine/threads.js'
import { version } from '../package.js'
import { measureProducts, tryLibtorch } from '../setup/try_libtorch.js'
import { chooseVariant } from '../setup/variant.js'
import { findFfmpeg } from '../video/ffmpeg.js'

/** `torchreel doctor`: checks the installation and says how to fix problems. Exit code 1 if a check fails. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check the installation and say how to fix problems')
    .option('--json', 'print the checks as JSON')
    .exitOverride()
    .action(async ({ json }: { json?: boolean }) => {
      const checks = await examine()
      const ok = checks.every((check) => check.ok)
      process.stdout.write(json ? `${JSON.stringify({ ok, checks }, null, 2)}\n` : checks.map(line).join(''))
      if (!ok) process.exitCode = 1
    })
}

function line({ name, ok, found, advice }: Check): string {
  const head = `${ok ? 'ok' : 'no'}  ${name.padEnd(10)}${found}\n`
  return advice === undefined ? head : `${head}${`→ ${advice.trim()}`.replace(/^/gm, '              ')}\n`
}

/** One thing that torchreel needs or can use. */
export interface Check {
  readonly name: string
  readonly ok: boolean
  readonly found: string
  /** What to do if it is not ok. */
  readonly advice?: string
  /** The same as data. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** The first versions of Node 20 and 22 that can `require` an ES module, which this package is. */
const oldestNode: Readonly<Record<number, number>> = { 20: 19, 22: 12 }

/** Runs all checks. libtorch and its devices are tried in child processes, so that a crash ends the child only. */
async function examine(): Promise<Check[]> {
  const nvidia = await findNvidia()
  return [
    { name: 'torchreel', ok: true, found: version, details: { version } },
    nodeCheck(process.versions.node),
    platformCheck(),
    processorCheck(),
    threadsCheck(),
    addonCheck(),
    await libtorchCheck(),
    await productsCheck(),
    await gpuCheck(nvidia),
    await ffmpegCheck(),
    await modelsCheck(),
    await diskCheck(),
  ]
}

export function nodeCheck(node: string): Check {
  const [major = 0, minor = 0] = node.split('.').map(Number)
  const ok = major > 22 || minor >= (oldestNode[major] ?? Number.POSITIVE_INFINITY)
  const advice = 'Install Node 20.19, 22.12 or newer'
  return { name: 'node', ok, found: node, details: { version: node }, ...(!ok && { advice }) }
}

function platformCheck(): Check {
  const advice = platformProblem()
  const glibc = glibcVersion()
  return {
    name: 'platform',
    ok: advice === undefined,
    found: `${process.platform}-${process.arch}, ${glibc ? `glibc ${glibc}` : 'no glibc'}`,
    details: { platform: process.platform, arch: process.arch, glibc },
    ...(advice !== undefined && { advice }),
  }
}

function processorCheck(): Check {
  const sets = instructionSets()
  const [first] = cpus()
  const ok = sets?.includes('AVX2') ?? true
  const known = sets ?? ['instruction sets unknown (/proc/cpuinfo cannot be read)']
  return {
    name: 'processor',
    ok,
    found: `${cpus().length} × ${first?.model.trim()}, ${known.join(', ') || 'no AVX2'}, ${gigabytes(totalmem())} of memory`,
    details: { count: cpus().length, model: first?.model, instructionSets: sets, memoryBytes: totalmem() },
    ...(!ok && { advice: 'Works, but slowly: libtorch’s fast kernels need AVX2' }),
  }
}

function threadsCheck(): Check {
  const { threads, reason, givesWay } = chooseThreads()
  const fewer =
    givesWay && threads > 1
      ? '; fewer for operations of libtorch while other programs keep processors busy'
      : ''
  const found = `${threads} for an operation on the CPU: ${reason}${fewer}`
  return { name: 'threads', ok: true, found, details: { threads, reason } }
}

function addonCheck(): Check {
  try {
    const file = addonFile()
    const cores = coreVersions(file)
    const found = `${file}, for libtorch ${cores.join(', ')}`
    return { name: 'addon', ok: true, found, details: { file, libtorch: cores } }
  } catch (error) {
    return failed('addon', error)
  }
}

async function libtorchCheck(): Promise<Check> {
  const name = 'libtorch'
  try {
    const libtorch = findLibtorch()
    const details = { ...libtorch, variant: variantOf(libtorch) }
    const found = `${libtorch.version} (${details.variant}) in ${libtorch.folder}, found by ${libtorch.source}`
    try {
      await tryLibtorch(libtorch.folder)
      return { name, ok: true, found, details }
    } catch (error) {
      const advice = `It does not load: ${(error as Error).message}. ${libtorchAdvice[libtorch.source]}`
      return { name, ok: false, found, details, advice }
    }
  } catch (error) {
    return failed(name, error)
  }
}

/** How fast the CPU multiplies in each type, and which to take. */
async function productsCheck(): Promise<Check> {
  const name = 'products'
  try {
    const rates = await measureProducts(findLibtorch().folder)
    const rounded = Object.entries(rates).map(([dtype, rate]) => `${(rate / 1e9).toFixed(0)} in ${dtype}`)
    const gain = rates.bfloat16 / rates.float32
    const advice =
      gain > 1.3
        ? `dtype 'bfloat16' saves time and memory on this CPU, but a whole video gains less than these numbers say`
        : `dtype 'float32' is the fastest on this CPU`
    const found = `products of matrices on the CPU, in GFLOP/s: ${rounded.join(', ')}. ${advice}`
    return { name, ok: true, found, details: rates }
  } catch (error) {
    const found = `not measured: ${(error as Error).message.split('\n')[0]}`
    return { name, ok: true, found, details: {} } // libtorch's own check says what to do
  }
}

async function gpuCheck(nvidia: Nvidia | undefined): Promise<Check> {
  const name = 'gpu'
  if (!nvidia) return { name, ok: true, found: 'no NVIDIA driver: the CPU is used', details: { gpus: [] } }
  const gpus = nvidia.gpus.map((gpu) => `${gpu.name} with ${gigabytes(gpu.memoryBytes)}`)
  const found = `driver ${nvidia.driver}: ${gpus.join(', ') || 'GPUs unknown: nvidia-smi was not found'}`
  const check = { name, found, details: { ...nvidia } }
  const advice = `The CPU is used. Type: npx torchreel setup --variant ${chooseVariant(nvidia).variant}`
  try {
    await tryLibtorch(findLibtorch().folder, { device: 'cuda' })
    return { ...check, ok: true }
  } catch (error) {
    return { ...check, ok: false, advice: `${(error as Error).message}. ${advice}` }
  }
}

async function ffmpegCheck(): Promise<Check> {
  try {
    const { path, version, source, encoders } = await findFfmpeg()
    const used = ['libx264', 'libvpx-vp9', 'libvpx', 'libaom-av1', 'libsvtav1', 'libwebp_anim', 'gif', 'apng']
    const has = used.filter((encoder) => encoders.has(encoder))
    const found = `${version} in ${path} (${source}), with ${has.join(', ')}`
    return { name: 'ffmpeg', ok: true, found, details: { path, version, source, encoders: has } }
  } catch (error) {
    return failed('ffmpeg', error)
  }
}

async function modelsCheck(): Promise<Check> {
  const folder = findHubCache()
  if (folder === undefined) return withoutFolder('models', 'Set HOME or HF_HOME to a folder')
  const models = await listModels(folder)
  const broken = models.filter((model) => model.problem)
  const names = models.map(({ model, problem }) => `${model}${problem ? ' (does not load)' : ''}`)
  return {
    name: 'models',
    ok: broken.length === 0,
    found: `${names.join(', ') || 'none'} in ${folder}`,
    details: { folder, models },
    ...(broken.length > 0 && { advice: 'Run `npx torchreel models` to see what is wrong' }),
  }
}

async function diskCheck(): Promise<Check> {
  const folders = [findCacheFolder(), findHubCache()].filter((folder) => folder !== undefined)
  if (folders.length === 0) return withoutFolder('disk', cacheAdvice)
  const free = await Promise.all(folders.map(freeBytes))
  const ok = Math.min(...free) > 8e9
  return {
    name: 'disk',
    ok,
    found: folders.map((folder, i) => `${gigabytes(free[i] as number)} free at ${folder}`).join(', '),
    details: Object.fromEntries(folders.map((folder, i) => [folder, free[i]])),
    ...(!ok && {
      advice:
        'A large model in float32 needs 7 GB, libtorch for CUDA 5 GB. Free some space, or set HF_HOME and XDG_CACHE_HOME to ' +
        'folders with more',
    }),
  }
}

/** What has no folder in the cache, as this user has no home. */
function withoutFolder(name: string, advice: string): Check {
  return { name, ok: false, found: 'no cache: this user has no home folder', advice }
}

function failed(name: string, error: unknown): Check {
  const [found = '', ...rest] = (error as Error).message.split('\n')
  return { name, ok: false, found: found.replace(/ Tried:$/, ''), advice: rest.join('\n') || found }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`
}
