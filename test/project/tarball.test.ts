// The published files: a list of everything allowed in the package, so that nothing else gets in.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { repository } from '../support/fixtures.js'

const pack = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
  cwd: repository,
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'ignore'],
})
const [{ files, size }] = JSON.parse(pack) as [{ files: { path: string }[]; size: number }]
const names = files.map((file) => file.path)

test('[tarball] only what runs: the compiled library, prebuilds, graphs, shapes, what exports graphs, documents', () => {
  const allowed = [
    /^(package\.json|README\.md|LICENSE|CHANGELOG\.md)$/,
    /^dist\/[\w/]+\.(js|d\.ts)$/,
    /^prebuilds\/linux-x64\/(torchreel\.glibc\.node|torchreel_(core|cuda)-\d+\.\d+\.so)$/,
    /^models\/graphs\/(README\.md|manifest\.json|[\w.-]+\/(text_encoder|transformer|unet|vae)\.pt)$/,
    /^models\/shapes\/[\w/]+\.(json|txt|safetensors|md|png)$/,
    /^models\/((export|compile_denoiser)\.py|requirements(-compile)?\.txt|README\.md|definitions\/(wan\/)?\w+\.py)$/,
    /^docs\/[\w-]+\.(md|png|svg)$/,
    /^examples\/\w+\.[cm]js$/,
    /^examples\/server\/(Dockerfile|compose\.yaml|torchreel-server\.service)$/,
  ]
  assert.deepEqual(
    names.filter((name) => !allowed.some((pattern) => pattern.test(name))),
    [],
  )
})

test('[tarball] everything that runs is in it', () => {
  const manifest = JSON.parse(readFileSync(`${repository}models/graphs/manifest.json`, 'utf8'))
  const graphs = JSON.stringify(manifest).match(/[\w.-]+\/(text_encoder|transformer|unet|vae)\.pt/g) ?? []
  assert.ok(graphs.length >= 6)
  const needed = [
    ...[
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/main.js',
      'models/graphs/manifest.json',
      'models/export.py',
      'models/compile_denoiser.py',
    ],
    ...['model_index.json', 'unet/diffusion_pytorch_model.safetensors'].map(
      (name) => `models/shapes/${name}`,
    ),
    ...graphs.map((graph) => `models/graphs/${graph}`),
  ]
  assert.deepEqual(
    needed.filter((name) => !names.includes(name)),
    [],
  )
})

test('[installation, tarball] it is small, and installing it runs nothing', () => {
  assert.ok(size < 20e6, `${size} bytes`)
  const { scripts, gypfile } = JSON.parse(readFileSync(`${repository}package.json`, 'utf8'))
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare', 'prebuild', 'postbuild'])
    assert.equal(scripts[script], undefined, script)
  assert.equal(gypfile, false)
})
