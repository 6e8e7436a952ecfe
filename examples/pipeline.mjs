// Loads a pipeline once and makes several videos: progress, a time limit, and the same seed with two schedulers.
import { EulerDiscreteScheduler, TextToVideoPipeline } from 'torchreel'

const [folder = '.', steps = '25'] = process.argv.slice(2)
const pipeline = await TextToVideoPipeline.fromPretrained('shapes')
try {
  for (const scheduler of [
    pipeline.scheduler,
    EulerDiscreteScheduler.fromConfig(pipeline.scheduler.config),
  ]) {
    const video = await pipeline.generate('a small blue square moving up on a white background', {
      scheduler,
      seed: 7,
      steps: Number(steps),
      signal: AbortSignal.timeout(600_000),
      onProgress: ({ stage, step, steps, etaMs }) => console.error(stage, `${step}/${steps}`, etaMs ?? ''),
    })
    console.log(await video.save(`${folder}/${video.scheduler}.gif`, { overwrite: true }))
  }
} finally {
  await pipeline.dispose()
}
