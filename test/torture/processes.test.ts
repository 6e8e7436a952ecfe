// Threads that end and memory that ends, in processes of their own.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { startProgram } from '../support/child.js'
import { tinyCheckpoint } from '../support/fixtures.js'
import { tally } from '../support/tally.js'

const small = { steps: 4, frames: 2, seed: 1 }
await using pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
const golden = Buffer.from((await pipeline.generate('a panda', small)).data).toString('base64')
const giveGolden = `
  const video = await pipeline.generate('a panda', ${JSON.stringify(small)})
  console.log(Buffer.from(video.data).toString('base64'))`

test('[terminated-worker] worker.terminate() fifty times, while it loads, in a step, while it saves', async (t) => {
  const { ended } = startProgram(`
    import { Worker } from 'node:worker_threads'
    const program = \`
      import { parentPort, workerData } from 'node:worker_threads'
      import { TextToVideoPipeline, Video } from 'torchreel'
      const tell = (what) => { if (what === workerData) parentPort.postMessage(what) }
      tell('begin')
      const loading = TextToVideoPipeline.fromPretrained(\${JSON.stringify(pipeline.folder)})
      tell('load')
      const pipeline = await loading
      const onProgress = ({ stage }) => tell(stage)
      for (;;) {
        const steps = workerData === 'denoise' ? 1000 : 1
        const frames = workerData === 'decode' ? 200 : 2
        const video = await pipeline.generate('a panda', { steps, frames, onProgress })
        const saving = video.toBuffer('mp4')
        tell('save')
        await saving
      }\`
    const moments = ['begin', 'load', 'encode', 'denoise', 'decode', 'save']
    for (let i = 0; i < 50; i++) {
      const worker = new Worker(program, { eval: true, workerData: moments[i % moments.length] })
      worker.on('error', (error) => { console.error(error); process.exit(5) })
      await new Promise((resolve) => worker.once('message', resolve))
      await new Promise((resolve) => setTimeout(resolve, i % 7))
      await worker.terminate()
    }
    ${giveGolden}`)
  const { code, signal, stdout, stderr } = await ended
  assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  assert.equal(stdout.trim(), golden)
  tally(t, 'jobs run', 50)
})

test('[memory-refused] the system refuses memory (ulimit -v): ERR_OUT_OF_MEMORY; with more of it the next job is as ever', async (t) => {
  if (spawnSync('prlimit', ['--version']).status !== 0) return t.skip('no prlimit')
  const { ended } = startProgram(`
    import { spawnSync } from 'node:child_process'
    import { readFileSync } from 'node:fs'
    const limit = (bytes) => {
      const { status, stderr } = spawnSync('prlimit', ['--pid', process.pid, '--as=' + bytes + ':unlimited'])
      if (status !== 0) throw new Error(String(stderr))
    }
    await pipeline.generate('a panda', { steps: 1, frames: 1 })
    const pages = Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[0])
    for (const more of [300e6, 500e6]) {
      limit(4096 * pages + more)
      const large = { steps: 1, frames: 16, width: 1024, height: 1024 }
      await pipeline.generate('a panda', large).then(
        () => { throw new Error('there was enough') },
        ({ code, device, message }) => { console.error(code, device, message.length < 300) },
      )
      limit('unlimited')
    }
    ${giveGolden}`)
  const { code, signal, stdout, stderr } = await ended
  const refused = 'ERR_OUT_OF_MEMORY cpu true\n'
  assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: refused.repeat(2) })
  assert.equal(stdout.trim(), golden)
  tally(t, 'faults injected', 2)
})
