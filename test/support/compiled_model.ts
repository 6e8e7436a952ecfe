import { execFileSync } from 'node:child_process'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { repository, tinyCheckpoint } from './fixtures.js'

const modules = `${repository}build/python`
const environment = {
  ...process.env,
  PYTHONPATH: `${path.dirname(findLibtorch().folder)}:${modules}`,
  TORCHINDUCTOR_CACHE_DIR: `${repository}build/inductor`,
  AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL: 'O0', // compiles faster
}

/** Runs `python3` with the Python part of the libtorch. */
export function python(...parameters: string[]): string {
  return execFileSync('python3', ['-W', 'ignore', ...parameters], {
    ...{ cwd: repository, env: environment, encoding: 'utf8', stdio: 'pipe' },
  })
}

/** Installs the Python modules for compiling that python3 does not have. */
function getModules(): void {
  const requirements = `${repository}models/requirements-compile.txt`
  const names = readFileSync(requirements, 'utf8').match(/^\w+(?===)/gm) as string[]
  try {
    python('-c', `import ${names.join(', ')}`)
  } catch {
    const options = ['--quiet', '--retries', '1', '--target', modules, '--requirement', requirements]
    python('-m', 'pip', 'install', ...options)
  }
}

/** The case that {@link makeCompiledModel} compiles for. */
export const compiledSize = { frames: 4, width: 16, height: 16 }

/** Makes a checkpoint with the smallest possible UNet, its graphs, and the compiled UNet. */
export function makeCompiledModel(folder: string): { model: string; compiledDenoiser: string } {
  const configs = path.join(folder, 'configs')
  const model = path.join(folder, 'model')
  const compiledDenoiser = path.join(folder, 'unet.pt2')
  cpSync(tinyCheckpoint, configs, { recursive: true, filter: (name) => !name.endsWith('.safetensors') })
  const config = path.join(configs, 'unet', 'config.json')
  writeFileSync(
    config,
    JSON.stringify({
      ...JSON.parse(readFileSync(config, 'utf8')),
      ...{ down_block_types: ['CrossAttnDownBlock3D'], up_block_types: ['CrossAttnUpBlock3D'] },
      ...{ block_out_channels: [16], norm_num_groups: 4, attention_head_dim: 8 },
    }),
  )
  python('models/random_checkpoint.py', configs, '--output', model)
  cpSync(`${repository}models/graphs`, path.join(model, 'graphs'), { recursive: true }) // has the other networks
  python('models/export.py', model)
  getModules()
  const { frames, width, height } = compiledSize
  const size = ['--frames', `${frames}`, '--width', `${width}`, '--height', `${height}`]
  python('models/export.py', model, '--compile', compiledDenoiser, ...size)
  return { model, compiledDenoiser }
}
