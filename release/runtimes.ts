// The installed package where it is not a plain program under Node: Yarn Plug'n'Play, Node's permission model, Jest, Vitest,
// Bun and Deno. All come from npm's registry; Bun and Deno as the packages that carry their binaries.
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  cell,
  ffmpeg,
  install,
  isHealthy,
  libtorch,
  makeProject,
  makesVideo,
  nodeFolder,
  nodes,
  run,
  tool,
  work,
} from './project.js'

/** What is tried, and what came of it. */
export type Row = Record<string, string>

/** A test as a user would write it: what torchreel returned goes back into it, errors are matched by their code. */
const runnersTest = `import { TextToVideoPipeline } from 'torchreel'
test('latents, embeddings, videos and errors', async () => {
  const pipeline = await TextToVideoPipeline.fromPretrained('shapes')
  const call = { steps: 2, seed: 1 }
  const video = await pipeline.generate('a big red circle', { ...call, returnLatents: true })
  const again = await pipeline.generate('a big red circle', call)
  expect(Buffer.compare(again.data, video.data)).toBe(0)
  await pipeline.generate('a circle', { ...call, latents: video.latents })
  await pipeline.generate(undefined, { ...call, guidanceScale: 1, promptEmbeds: await pipeline.encodePrompt('a circle') })
  await pipeline.generate('a circle', { ...call, video })
  expect(await video.save(process.env.OUTPUT, { overwrite: true })).toBe(process.env.OUTPUT)
  await expect(pipeline.generate('a', { steps: 0 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  await pipeline.dispose()
}, 60_000)
`

/** Tries all of them. */
export async function tryRuntimes(tarball: string): Promise<Row[]> {
  const rows: Row[] = []
  for (const major of nodes) rows.push(await tryPlugAndPlay(tarball, major))
  const project = makeProject('runtimes-npm')
  writeFileSync(path.join(project, 'runners.test.mjs'), runnersTest)
  install(project, 'jest@30', 'vitest@5', tarball)
  for (const major of nodes) rows.push(await tryPermissions(project, major))
  for (const major of nodes) rows.push(await tryRunners(project, major))
  rows.push(
    await tryRuntime(project, 'Bun', path.join(tool('@oven/bun-linux-x64@1'), '@oven/bun-linux-x64/bin/bun')),
  )
  const deno = path.join(tool('@deno/linux-x64-glibc@2'), '@deno/linux-x64-glibc/deno')
  rows.push(await tryRuntime(project, 'Deno', deno, ['run', '--no-prompt', ...denoPermissions]))
  return rows
}

/** All that docs/electron-and-bundlers.md asks for. */
const denoPermissions = ['read', 'write', 'env', 'sys', 'ffi', 'run'].map((name) => `--allow-${name}`)

async function tryPlugAndPlay(tarball: string, major: string): Promise<Row> {
  const bin = nodeFolder(major)
  const project = makeProject(`pnp-${major}`)
  const settings = ['nodeLinker: pnp', 'enableTelemetry: false', 'enableGlobalCache: false']
  writeFileSync(path.join(project, '.yarnrc.yml'), `${settings.join('\n')}\n`)
  writeFileSync(path.join(project, 'yarn.lock'), '')
  const script = path.join(tool('@yarnpkg/cli-dist@4'), '@yarnpkg/cli-dist/bin/yarn.js')
  const yarn = (parameters: string[], environment?: NodeJS.ProcessEnv) =>
    run(project, bin, [script, ...parameters], environment)
  const video = (program: string, output: string) =>
    makesVideo(project, output, (file, environment) => yarn(['node', program, file], environment))
  await yarn(['add', `torchreel@file:${tarball}`])
  return {
    tried: `Yarn Plug'n'Play, Node ${major}`,
    mp4: await cell(() => video('esm.mjs', 'esm.mp4')),
    gif: await cell(() => video('commonjs.cjs', 'commonjs.gif')),
    worker: await cell(() => video('worker.mjs', 'worker.apng')),
    doctor: await cell(() =>
      isHealthy(yarn(['torchreel', 'doctor', '--json'], { TORCHREEL_LIBTORCH: libtorch })),
    ),
  }
}

/** With the right to read what docs/electron-and-bundlers.md names, and no more. */
async function tryPermissions(project: string, major: string): Promise<Row> {
  const readable = [project, libtorch, ffmpeg, '/etc/alpine-release'].map(
    (place) => `--allow-fs-read=${place}`,
  )
  const flags = [
    major === '20' ? '--experimental-permission' : '--permission',
    ...[
      ...readable,
      `--allow-fs-write=${project}`,
      '--allow-addons',
      '--allow-child-process',
      '--allow-worker',
    ],
  ]
  const video = (program: string, output: string) =>
    makesVideo(project, output, (file, environment) =>
      run(project, nodeFolder(major), [...flags, program, file], environment),
    )
  return {
    tried: `permission model, Node ${major}`,
    mp4: await cell(() => video('esm.mjs', `permission-${major}.mp4`)),
    gif: await cell(() => video('commonjs.cjs', `permission-${major}.gif`)),
    worker: await cell(() => video('worker.mjs', `permission-${major}.apng`)),
  }
}

async function tryRunners(project: string, major: string): Promise<Row> {
  const row: Row = { tried: `test runners, Node ${major}` }
  const runner = (parameters: string[], environment: NodeJS.ProcessEnv = {}) =>
    cell(async () => {
      const OUTPUT = path.join(project, `runner-${major}.mp4`)
      await run(project, nodeFolder(major), parameters, {
        TORCHREEL_LIBTORCH: libtorch,
        OUTPUT,
        ...environment,
      })
      return true
    })
  row.jest = await runner(
    [path.join(project, 'node_modules/jest/bin/jest.js'), '--testMatch', '**/runners.test.mjs'],
    { NODE_OPTIONS: '--experimental-vm-modules' },
  )
  for (const pool of major === '20' ? [] : ['forks', 'threads', 'vmThreads'])
    row[`vitest ${pool}`] = await runner([
      path.join(project, 'node_modules/vitest/vitest.mjs'),
      ...['run', '--globals', `--pool=${pool}`, 'runners.test.mjs'],
    ])
  return row
}

async function tryRuntime(
  project: string,
  name: string,
  program: string,
  flags: string[] = [],
): Promise<Row> {
  // Their doctor and set-up must not find Node on PATH.
  const start = (parameters: string[], environment: NodeJS.ProcessEnv) =>
    run(project, path.join(work, 'nothing'), [...flags, ...parameters], environment, program)
  const video = (file: string, output: string) =>
    makesVideo(project, output, (to, environment) => start([file, to], environment))
  const cli = path.join(project, 'node_modules/torchreel/dist/cli/main.js')
  return {
    tried: name,
    mp4: await cell(() => video('esm.mjs', `${name}.mp4`)),
    gif: await cell(() => video('commonjs.cjs', `${name}.gif`)),
    worker: await cell(() => video('worker.mjs', `${name}.apng`)),
    doctor: await cell(() => isHealthy(start([cli, 'doctor', '--json'], { TORCHREEL_LIBTORCH: libtorch }))),
  }
}
