// `torchreel doctor`: what is there is said, what is missing is said with what to do.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { type Check, nodeCheck } from '#dist/cli/doctor.js'
import { findLibtorch } from '#dist/machine/libtorch.js'
import { startNode } from '../support/child.js'
import { repository } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-doctor-'))
after(() => rmSync(folder, { recursive: true }))

function doctor(environment: NodeJS.ProcessEnv, ...parameters: string[]) {
  const command = [`${repository}dist/cli/main.js`, 'doctor', ...parameters]
  return startNode(command, { ...process.env, ...environment }).ended
}

async function checks(environment: NodeJS.ProcessEnv): Promise<{ ok: boolean; by: Record<string, Check> }> {
  const { code, stdout, stderr } = await doctor(environment, '--json')
  assert.equal(stderr, '')
  const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] }
  assert.equal(code, ok ? 0 : 1)
  assert.equal(
    ok,
    checks.every((check) => check.ok),
  )
  return { ok, by: Object.fromEntries(checks.map((check) => [check.name, check])) }
}

test('what is there: every part by name, and what was found', async () => {
  const { by } = await checks({})
  const names = [
    'torchreel',
    'node',
    'platform',
    'processor',
    'threads',
    'addon',
    'libtorch',
    'products',
    'gpu',
    'ffmpeg',
    'models',
    'disk',
  ]
  assert.deepEqual(Object.keys(by), names)
  for (const name of ['node', 'platform', 'addon', 'libtorch', 'ffmpeg']) assert.ok(by[name]?.ok, name)
  assert.equal(by.libtorch?.details?.version, findLibtorch().version)
  assert.equal(by.node?.details?.version, process.versions.node)
})

test('what is missing: each with what to do', async () => {
  writeFileSync(path.join(folder, 'nvidia-smi'), '#!/bin/sh\necho "580.65.06, NVIDIA H200, 143771, 9.0"\n', {
    mode: 0o755,
  })
  const gone = { TORCHREEL_LIBTORCH: '', XDG_CACHE_HOME: path.join(folder, 'nowhere') }
  const { by } = await checks({
    ...gone,
    FFMPEG_PATH: '/nowhere/ffmpeg',
    PATH: `${folder}:${process.env.PATH}`,
  })
  assert.match(by.libtorch?.advice ?? '', /nowhere.*: no such folder\nGet it with: npx torchreel setup/)
  assert.match(by.ffmpeg?.advice ?? '', /\/nowhere\/ffmpeg.*npm install ffmpeg-static/s)
  assert.match(by.gpu?.found ?? '', /driver 580\.65\.06: NVIDIA H200 with 150\.\d GB/)
  assert.match(by.gpu?.advice ?? '', /npx torchreel setup --variant cu130/)
})

test('a libtorch that does not load, and no addon, as text', async () => {
  const libtorch = path.join(folder, 'broken')
  mkdirSync(path.join(libtorch, 'lib'), { recursive: true })
  writeFileSync(path.join(libtorch, 'build-version'), findLibtorch().version)
  writeFileSync(path.join(libtorch, 'lib', 'libtorch_cpu.so'), 'no library')
  const broken = await doctor({ TORCHREEL_LIBTORCH: libtorch })
  assert.equal(broken.code, 1)
  assert.match(
    broken.stdout,
    /^no {2}libtorch .*\n +→ It does not load: .*file too short.*unset it and type: npx/m,
  )

  const { code, stdout } = await doctor({ TORCHREEL_PREBUILD: folder })
  assert.equal(code, 1)
  assert.match(stdout, /^no {2}addon .*no addon.*\n(?: +.*\n)* +.*npm install torchreel.*npm run build/m)
})

test('Node: from 20.19 and 22.12 on', () => {
  const versions = ['20.18.0', '20.19.0', '21.7.0', '22.11.0', '22.12.0', '24.0.0']
  assert.deepEqual(
    versions.map((version) => nodeCheck(version).ok),
    [false, true, false, false, true, true],
  )
})
