// Jobs, their ends and the process's: queueing, aborts, disposal, exits and worker threads. The numbers are those of the
// project's list of reliability cases.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, describe, test } from 'node:test'
import { type GenerateOptions, TextToVideoPipeline } from 'torchreel'
import { startProgram } from '../support/child.js'
import { tinyCheckpoint } from '../support/fixtures.js'

const small: GenerateOptions = { steps: 4, frames: 2, seed: 1 }
const long: GenerateOptions = { steps: 1000, frames: 8, width: 64, height: 64, seed: 1 }

const pipeline = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
after(() => pipeline.dispose())
const golden = await pipeline.generate('a panda', small)

/** The pipeline is as it was: the next small job gives its golden frames. */
async function assertClean(): Promise<void> {
  assert.deepEqual((await pipeline.generate('a panda', small)).data, golden.data)
}

/** Resolves with a generation's progress once its first step is done. */
function firstStep(): { promise: Promise<void>; onProgress: NonNullable<GenerateOptions['onProgress']> } {
  let resolve: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  const onProgress: NonNullable<GenerateOptions['onProgress']> = ({ stage, step }) => {
    if (stage === 'denoise' && step === 1) resolve()
  }
  return { promise, onProgress }
}

describe('jobs', () => {
  test('[concurrent-calls] jobs on one pipeline run one at a time, in order, each with its own result', async () => {
    const order: number[] = []
    const jobs = [1, 2, 3].map(async (seed) => {
      const video = await pipeline.generate('a panda', { ...small, seed })
      order.push(seed)
      return video
    })
    const videos = await Promise.all(jobs)
    assert.deepEqual(order, [1, 2, 3])
    assert.deepEqual(videos[0]?.data, golden.data)
    assert.notDeepEqual(videos[1]?.data, golden.data)
  })

  test('two pipelines at once give the same frames as one alone', async () => {
    await using other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const both = await Promise.all([other, pipeline].map((one) => one.generate('a panda', small)))
    for (const video of both) assert.deepEqual(video.data, golden.data)
  })

  test('progress counts every step and every frame, in order', async () => {
    const seen: string[] = []
    await pipeline.generate('a panda', {
      ...small,
      onProgress: ({ stage, step, steps }) => {
        seen.push(`${stage} ${step}/${steps}`)
      },
    })
    assert.deepEqual(seen, [
      ...['encode 0/1', 'encode 1/1'],
      ...[0, 1, 2, 3, 4].map((step) => `denoise ${step}/4`),
      ...[0, 1, 2].map((frame) => `decode ${frame}/2`),
    ])
  })

  test('[throwing-listeners] what onProgress throws or rejects with ends the job and rejects the call', async () => {
    const error = new Error('from the caller')
    const throwing = () => {
      throw error
    }
    await assert.rejects(pipeline.generate('a panda', { ...long, onProgress: throwing }), error)
    await assert.rejects(pipeline.generate('a panda', { ...long, onProgress: async () => throwing() }), error)
    await assertClean()
  })

  test('[throwing-listeners] a late rejection of the last onProgress still rejects the call', async () => {
    const error = new Error('late')
    const onProgress: GenerateOptions['onProgress'] = async ({ stage, step, steps }) => {
      await new Promise((resolve) => setTimeout(resolve, 30))
      if (stage === 'decode' && step === steps) throw error
    }
    await assert.rejects(pipeline.generate('a', { steps: 1, frames: 1, onProgress }), error)
  })

  test('[calls-in-listeners] generate() inside onProgress is queued', async () => {
    let inner: Promise<unknown> | undefined
    const onProgress = () => {
      inner ??= pipeline.generate('a panda', small)
    }
    await pipeline.generate('a boat', { ...small, onProgress })
    assert.deepEqual(((await inner) as typeof golden).data, golden.data)
  })

  test('[event-loop] timers and file reads stay prompt while a job runs', async () => {
    const { promise, onProgress } = firstStep()
    const job = pipeline.generate('a panda', { ...long, steps: 100, onProgress })
    await promise
    let ticks = 0
    const timer = setInterval(() => ticks++, 10)
    const reads = await Promise.all(Array.from({ length: 8 }, () => readFile(import.meta.filename)))
    await job
    clearInterval(timer)
    assert.equal(reads.length, 8)
    assert.ok(ticks >= 5, `${ticks} ticks of 10 ms`)
  })
})

describe('aborts', () => {
  test('[aborted-before-call] aborted before the call', async () => {
    const reason = new Error('never mind')
    const signal = AbortSignal.abort(reason)
    await assert.rejects(pipeline.generate('a panda', { ...small, signal }), reason)
  })

  for (const stage of ['encode', 'denoise', 'decode'] as const) {
    test(`[aborted-in-steps, aborted-in-video] aborted at every report of ${stage}: rejects with the reason within a step`, async () => {
      for (let at = 0; at <= 4; at++) {
        const controller = new AbortController()
        const reason = { at }
        let later = 0
        const onProgress: NonNullable<GenerateOptions['onProgress']> = (progress) => {
          if (controller.signal.aborted) later++
          if (progress.stage === stage && progress.step >= at) controller.abort(reason)
        }
        const job = pipeline.generate('a panda', { ...small, signal: controller.signal, onProgress })
        if (at > { encode: 1, denoise: 4, decode: 2 }[stage]) await job
        else await assert.rejects(job, (error) => error === reason)
        assert.equal(later, 0, 'no progress is told after the abort')
      }
      await assertClean()
    })
  }

  test('[aborted-in-steps] an abort does not wait for the job’s end', async () => {
    const controller = new AbortController()
    const { promise, onProgress } = firstStep()
    let steps = 0
    const counting: typeof onProgress = (progress) => {
      steps = Math.max(steps, progress.stage === 'denoise' ? progress.step : 0)
      return onProgress(progress)
    }
    const job = pipeline.generate('a panda', { ...long, signal: controller.signal, onProgress: counting })
    await promise
    controller.abort()
    await assert.rejects(job, { name: 'AbortError' })
    assert.ok(steps < 100, `${steps} of 1000 steps were done`)
    await assertClean()
  })

  test('[aborted-in-queue] aborted while it waits: leaves the queue while the other goes on', async () => {
    const controller = new AbortController()
    const { promise, onProgress } = firstStep()
    const running = new AbortController()
    const first = pipeline.generate('a panda', { ...long, signal: running.signal, onProgress })
    const second = pipeline.generate('a boat', { ...small, signal: controller.signal })
    await promise
    controller.abort('enough')
    await assert.rejects(second, (error) => error === 'enough')
    running.abort()
    await assert.rejects(first)
    await assertClean()
  })

  test('[shared-signal] many calls with one signal leave no listener', async () => {
    const { signal } = new AbortController()
    let listeners = 0
    const add = signal.addEventListener.bind(signal)
    const remove = signal.removeEventListener.bind(signal)
    signal.addEventListener = (...parameters: Parameters<typeof add>) => {
      listeners++
      add(...parameters)
    }
    signal.removeEventListener = (...parameters: Parameters<typeof remove>) => {
      listeners--
      remove(...parameters)
    }
    for (let i = 0; i < 50; i++) await pipeline.generate('a panda', { steps: 1, frames: 1, signal })
    assert.equal(listeners, 0)
  })
})

describe('disposal', () => {
  test('[disposed-in-job] dispose() in the middle rejects what runs and what waits with ERR_DISPOSED', async () => {
    const other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const { promise, onProgress } = firstStep()
    const rejected = [
      assert.rejects(other.generate('a panda', { ...long, onProgress }), { code: 'ERR_DISPOSED' }),
      assert.rejects(other.generate('a boat', small), { code: 'ERR_DISPOSED' }),
    ]
    await promise
    const disposed = other.dispose()
    assert.equal(other.dispose(), disposed)
    await disposed
    await Promise.all(rejected)
  })

  test('[calls-in-listeners] dispose() inside onProgress', async () => {
    const other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const job = other.generate('a panda', { ...long, onProgress: () => void other.dispose() })
    await assert.rejects(job, { code: 'ERR_DISPOSED' })
  })

  test('[used-after-dispose] any use after dispose() is ERR_DISPOSED', async () => {
    const other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    await other[Symbol.asyncDispose]()
    const disposed = { name: 'TorchreelError', code: 'ERR_DISPOSED' }
    await assert.rejects(other.generate('a panda', small), disposed)
    await assert.rejects(other.encodePrompt('a panda'), disposed)
    await assert.rejects(other.loadLora('x.safetensors'), disposed)
    await assert.rejects(other.setAdapters([]), disposed)
    await assert.rejects(other.unloadLora(), disposed)
    await assert.rejects(other.loadTextualInversion('x.safetensors'), disposed)
    await assert.rejects(other.unloadTextualInversion(), disposed)
    assert.throws(() => other.generateFrames('a panda'), disposed)
    assert.throws(() => other.memory(), disposed)
  })

  test('[aborted-before-call] loading is aborted between networks', async () => {
    const reason = new Error('enough')
    for (const wait of [0, 1, 2, 5, 10, 20, 40]) {
      const controller = new AbortController()
      const loading = TextToVideoPipeline.fromPretrained(tinyCheckpoint, { signal: controller.signal })
      setTimeout(() => controller.abort(reason), wait)
      await loading.then(
        (loaded) => loaded.dispose(),
        (error) => assert.equal(error, reason),
      )
    }
    await assertClean()
  })

  test('[dropped-pipeline] pipelines that are disposed of and dropped at once, while the collector runs', async () => {
    const { ended } = startProgram(
      `
      const load = () => torchreel.TextToVideoPipeline.fromPretrained(pipeline.folder)
      const collector = setInterval(() => globalThis.gc(), 100)
      for (let i = 0; i < 6; i++) await (await load()).dispose()
      for (let i = 0; i < 4; i++) (await load()).dispose()
      clearInterval(collector)
      await pipeline.generate('a panda', { steps: 1, frames: 1 })`,
      ['--expose-gc'],
    )
    const { code, signal, stderr } = await ended
    assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  })

  test('[full-queue] more jobs than may wait are ERR_QUEUE_FULL, and the others are done', async () => {
    await using other = await TextToVideoPipeline.fromPretrained(tinyCheckpoint)
    const jobs = Array.from({ length: 257 }, () =>
      other.generate('a', { steps: 1, frames: 1, width: 8, height: 8, guidanceScale: 1 }),
    )
    const results = await Promise.allSettled(jobs)
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 256)
    const last = results[256]
    assert.ok(last?.status === 'rejected' && last.reason.code === 'ERR_QUEUE_FULL')
  })

  test('[dropped-pipeline] a pipeline that is dropped is collected', async () => {
    const { ended } = startProgram(
      `
      let collected = false
      const registry = new FinalizationRegistry(() => { collected = true })
      async function useAndDrop() {
        const dropped = await torchreel.TextToVideoPipeline.fromPretrained(pipeline.folder)
        registry.register(dropped)
        await dropped.generate('a panda', { steps: 1, frames: 1 })
      }
      await useAndDrop()
      for (let i = 0; i < 100 && !collected; i++) {
        globalThis.gc()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      console.log(collected)`,
      ['--expose-gc'],
    )
    const { code, stdout, stderr } = await ended
    assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'true\n', stderr: '' })
  })
})

describe('the process', () => {
  const midJob = (then: string) => `
    let steps = 0
    const job = pipeline.generate('a panda', {
      steps: 1000, frames: 8, width: 64, height: 64,
      onProgress: ({ stage }) => { if (stage === 'denoise' && ++steps === 2) { ${then} } },
    })
    job.catch(() => {})
    await job`

  test('[process-end] ends by itself after a job, undisposed, with nothing on stderr', async () => {
    const { ended } = startProgram(`await pipeline.generate('a panda', { steps: 1, frames: 1 })`)
    const { code, signal, stderr } = await ended
    assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  })

  test('[process-end] ends by itself with an idle pipeline', async () => {
    const { code, stderr } = await startProgram('').ended
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  })

  for (const status of [0, 3]) {
    test(`[process-exit] process.exit(${status}) in the middle of a step leaves at once with that status`, async () => {
      const { ended } = startProgram(midJob(`process.exit(${status})`))
      const { code, signal, stderr } = await ended
      assert.deepEqual({ code, signal, stderr }, { code: status, signal: null, stderr: '' })
    })
  }

  test('[uncaught-exception] an uncaught exception in the middle of a step ends with status 1 and its stack', async () => {
    const { ended } = startProgram(midJob(`setImmediate(() => { throw new Error('uncaught here') })`))
    const { code, signal, stderr } = await ended
    assert.deepEqual({ code, signal }, { code: 1, signal: null })
    assert.match(stderr, /uncaught here/)
    assert.doesNotMatch(stderr, /terminate called/)
  })

  test('[terminated-worker] worker.terminate() in the middle of a step, twenty times', async () => {
    const { ended } = startProgram(`
      import { Worker } from 'node:worker_threads'
      const program = \`
        import { parentPort } from 'node:worker_threads'
        import { TextToVideoPipeline } from 'torchreel'
        const pipeline = await TextToVideoPipeline.fromPretrained(\${JSON.stringify(pipeline.folder)})
        await pipeline.generate('a panda', {
          steps: 1000, frames: 4,
          onProgress: ({ stage }) => { if (stage === 'denoise') parentPort.postMessage('step') },
        })\`
      for (let i = 0; i < 20; i++) {
        const worker = new Worker(program, { eval: true })
        worker.on('error', (error) => { console.error(error); process.exit(5) })
        await new Promise((resolve) => worker.once('message', resolve))
        await worker.terminate()
      }
      const video = await pipeline.generate('a panda', { steps: 4, frames: 2, seed: 1 })
      console.log(Buffer.from(video.data).toString('base64'))`)
    const { code, signal, stdout, stderr } = await ended
    assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
    assert.equal(stdout.trim(), Buffer.from(golden.data).toString('base64'))
  })

  test('[many-threads] main thread and two workers at once, one ended, give the same frames', async () => {
    const { ended } = startProgram(`
      import { Worker } from 'node:worker_threads'
      const program = \`
        import { parentPort } from 'node:worker_threads'
        import { TextToVideoPipeline } from 'torchreel'
        const pipeline = await TextToVideoPipeline.fromPretrained(\${JSON.stringify(pipeline.folder)})
        const make = async () => (await pipeline.generate('a panda', { steps: 4, frames: 2, seed: 1 })).data
        parentPort.on('message', async () => parentPort.postMessage(await make()))
        parentPort.postMessage(await make())\`
      const next = (worker) => new Promise((resolve) => worker.once('message', resolve))
      const workers = [new Worker(program, { eval: true }), new Worker(program, { eval: true })]
      const frames = await Promise.all(workers.map(next))
      await workers[0].terminate()
      workers[1].postMessage('again')
      frames.push(await next(workers[1]))
      frames.push((await pipeline.generate('a panda', { steps: 4, frames: 2, seed: 1 })).data)
      await workers[1].terminate()
      console.log(JSON.stringify(frames.map((data) => Buffer.from(data).toString('base64'))))`)
    const { code, stdout, stderr } = await ended
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    const frames = JSON.parse(stdout) as string[]
    for (const data of frames) assert.equal(data, Buffer.from(golden.data).toString('base64'))
    assert.equal(frames.length, 4)
  })
})
