// The published files: the compiled server with its page, and nothing else.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { test } from 'node:test'

const require = createRequire(import.meta.url)
const folderOf = (name: string) => path.dirname(require.resolve(`${name}/package.json`))
const [folder, torchreel] = [folderOf('torchreel-server'), folderOf('torchreel')]
const read = (...names: string[]) => readFileSync(path.join(...names), 'utf8')

test('[tarball] the compiled server and its page, the README and the licence, and nothing else', () => {
  const pack = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [{ files }] = JSON.parse(pack) as [{ files: { path: string }[] }]
  const names = files.map((file) => file.path)
  const allowed = [
    /^(package\.json|README\.md|LICENSE)$/,
    /^dist\/(?!web\/)[\w/]+\.(js|d\.ts)$/,
    /^dist\/web\/(index\.html|icon\.svg|assets\/[\w-]+\.(js|css))$/,
  ]
  assert.deepEqual(
    names.filter((name) => !allowed.some((pattern) => pattern.test(name))),
    [],
  )
  const needed = ['README.md', 'LICENSE', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js']
  for (const name of [...needed, 'dist/work/child.js', 'dist/web/index.html', 'dist/web/icon.svg'])
    assert.ok(names.includes(name), name)
  for (const [, asset = ''] of read(folder, 'dist/web/index.html').matchAll(
    /(?:src|href)="\.?\/?(assets\/[^"]+)"/g,
  ))
    assert.ok(names.includes(`dist/web/${asset}`), asset)
  assert.equal(read(folder, 'LICENSE'), read(torchreel, 'LICENSE'))
})

test('[installation] installing the server runs nothing, and takes the torchreel of its version', () => {
  const { scripts, version, dependencies } = JSON.parse(read(folder, 'package.json'))
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare', 'prebuild', 'postbuild'])
    assert.equal(scripts[script], undefined, script)
  const torchreelVersion = JSON.parse(read(torchreel, 'package.json')).version
  assert.deepEqual([version, dependencies.torchreel], [torchreelVersion, torchreelVersion])
})
