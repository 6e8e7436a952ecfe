// Two worker threads with one pipeline each. The pipelines share the mapped weights, and the main thread stays idle.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { TextToVideoPipeline } from 'torchreel'

if (isMainThread) {
  const [folder = '.', steps = '25'] = process.argv.slice(2)
  const colours = ['red', 'blue']
  for (const colour of colours) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { colour, folder, steps } })
    worker.on('message', (message) => console.log(message))
    worker.on('error', (error) => {
      throw error
    })
  }
} else {
  const { colour, folder, steps } = workerData
  const pipeline = await TextToVideoPipeline.fromPretrained('shapes', { threads: 1 })
  const video = await pipeline.generate(`a big ${colour} circle moving right`, {
    seed: 1,
    steps: Number(steps),
    output: { path: `${folder}/${colour}.mp4`, overwrite: true },
  })
  parentPort.postMessage(video.file)
  await pipeline.dispose()
}
