// Every example runs as it stands, in few steps.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { startNode } from '../support/child.js'
import { repository } from '../support/fixtures.js'

const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-examples-'))
after(() => rmSync(folder, { recursive: true }))
const example = (name: string, ...parameters: string[]) =>
  startNode([`${repository}examples/${name}`, ...parameters])

const made: Record<string, [string, string[]]> = {
  'first_video.mjs': [path.join(folder, 'first.mp4'), ['first.mp4']],
  'pipeline.mjs': [folder, ['DPMSolverMultistepScheduler.gif', 'EulerDiscreteScheduler.gif']],
  'worker.mjs': [folder, ['red.mp4', 'blue.mp4']],
  'stream.cjs': [path.join(folder, 'stream.webm'), ['stream.webm']],
}

for (const [name, [where, files]] of Object.entries(made)) {
  test(`examples/${name}`, async () => {
    const { code, stdout, stderr } = await example(name, where, '2').ended
    assert.equal(code, 0, stderr)
    const said = stdout.trim().split('\n')
    assert.deepEqual(said.sort(), files.map((file) => path.join(folder, file)).sort())
    for (const file of said) assert.ok(readFileSync(file).length > 1000)
  })
}

test('examples/server.mjs answers with a video and ends when it is told to', async () => {
  const { child, ended } = example('server.mjs', '0', '2')
  const address = await new Promise<string>((resolve) =>
    child.stdout.once('data', (text) => resolve(`${text}`)),
  )
  const answer = await fetch(`${address.trim()}/?prompt=a+red+circle`)
  assert.equal(answer.headers.get('content-type'), 'video/mp4')
  assert.equal(Buffer.from(await answer.arrayBuffer()).toString('latin1', 4, 8), 'ftyp')
  child.kill('SIGTERM')
  assert.equal((await ended).code, 0)
})

test('no example is left out', () => {
  assert.deepEqual(
    readdirSync(`${repository}examples`).sort(),
    [...Object.keys(made), 'server', 'server.mjs'].sort(),
  )
})
