import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { TorchreelError } from './errors.js'
import {
  cachedLibtorchFolder,
  cacheFolder,
  findLibtorch,
  librariesOf,
  libtorchIn,
  libtorchVersion,
} from './libtorch.js'

/** The one package that torch needs to be imported: it makes `models/export.py` run on the same folder. */
const pythonPackage = 'typing-extensions'

const archive = `https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-${libtorchVersion}%2Bcpu.zip`

/** Takes one line of what is being done. */
export type Log = (line: string) => void

/**
 * Gets libtorch into the cache, unless it is there or `TORCHREEL_LIBTORCH` names one: by pip with the user's own configuration (the torch wheel is a whole
 * libtorch), else the official CPU archive. What came is opened in a child process before it counts.
 *
 * @returns the libtorch folder
 * @throws TorchreelError `ERR_LIBTORCH_NOT_FOUND` with why each way failed
 */
export async function setupLibtorch(log: Log): Promise<string> {
  // The user's own is what the build is for and what runs.
  if (process.env.TORCHREEL_LIBTORCH) return findLibtorch().folder
  const target = cachedLibtorchFolder()
  const present = libtorchIn(target)
  if (present) return present.folder

  await mkdir(cacheFolder(), { recursive: true })
  const failures: string[] = []
  for (const [name, get] of [
    ['pip', getWheel],
    ['archive', getArchive],
  ] as const) {
    // Beside the target, so that the rename at the end is atomic.
    const folder = await mkdtemp(path.join(cacheFolder(), 'incoming-'))
    try {
      await get(folder, log)
      await checkOpens(folder)
      await rename(folder, target).catch((error: NodeJS.ErrnoException) => {
        if (!libtorchIn(target)) throw error // another process was first: its libtorch is as good
      })
      const { folder: found, version } = libtorchIn(target) as { folder: string; version: string }
      log(`libtorch ${version} is in ${found}`)
      return found
    } catch (error) {
      failures.push(`${name}: ${(error as Error).message}`)
      log(`${name} did not give a usable libtorch: ${(error as Error).message}`)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
  throw new TorchreelError(
    'ERR_LIBTORCH_NOT_FOUND',
    `libtorch ${libtorchVersion} could not be had (${failures.join('; ')}). Unpack one yourself and name it in ` +
      'TORCHREEL_LIBTORCH',
    { path: target },
  )
}

/** `pip install --target`: obeys the user's indexes and mirrors; nothing but torch and what imports it. */
async function getWheel(folder: string, log: Log): Promise<void> {
  log(`getting torch ${libtorchVersion} with pip`)
  const packages = [`torch==${libtorchVersion}`, pythonPackage]
  await run('python3', [
    '-m',
    'pip',
    'install',
    '--no-deps',
    '--disable-pip-version-check',
    // Where an index has several builds, this one adds the CPU's, which needs no other package and is the smallest.
    '--extra-index-url',
    'https://download.pytorch.org/whl/cpu',
    '--target',
    folder,
    ...packages,
  ])
}

/** The official archive of libtorch for the CPU. */
async function getArchive(folder: string, log: Log): Promise<void> {
  log(`getting ${archive}`)
  const file = path.join(folder, 'libtorch.zip')
  const response = await fetch(archive)
  if (!response.ok || !response.body) throw new Error(`${archive} answered ${response.status}`)
  const total = Number(response.headers.get('content-length') ?? 0)
  await pipeline(Readable.fromWeb(response.body), counted(total, log), createWriteStream(file))
  await run('unzip', ['-q', file, '-d', folder])
  await rename(path.join(folder, 'libtorch'), path.join(folder, 'torch'))
  await rm(file)
}

/** Passes bytes on and logs every tenth of them. */
function counted(total: number, log: Log): Transform {
  let bytes = 0
  let tenths = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      while (total > 0 && bytes >= ((tenths + 1) * total) / 10)
        log(`${++tenths * 10}% of ${Math.round(total / 1e6)} MB`)
      done(null, chunk)
    },
  })
}

/** Opens the libraries in a child process: a libtorch that lacks something fails there and not in the user's program. */
async function checkOpens(folder: string): Promise<void> {
  const found = libtorchIn(folder)
  if (!found) throw new Error('it holds no lib/libtorch_cpu.so')
  // process.dlopen says so when a library that did open is no addon; any other words are the loader's.
  const script = `for (const library of ${JSON.stringify(librariesOf({ ...found, source: 'cache' }))}) {
    try { process.dlopen({ exports: {} }, library) } catch (error) {
      if (!/self-register/.test(error.message)) { console.error(error.message); process.exit(1) }
    }
  }`
  await run(process.execPath, ['-e', script])
}

/** Runs a program with its output on our stderr. Throws with the end of that output when it fails. */
async function run(command: string, parameters: string[]): Promise<void> {
  const child = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'] })
  let tail = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      process.stderr.write(chunk)
      tail = (tail + chunk.toString()).slice(-2000)
    })
  }
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0) resolve()
      else
        reject(
          new Error(
            `${command} ended with ${signal ?? code}: ${tail.trim().split('\n').slice(-3).join(' ')}`,
          ),
        )
    })
  })
}
