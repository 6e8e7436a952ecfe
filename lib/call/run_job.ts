import path from 'node:path'
import type { Adapters } from '../adapters/adapters.js'
import type { NativeEvent } from '../addon/interface.js'
import { chooseSeed } from '../checks/seed.js'
import type { LoadedModel } from '../loading.js'
import { version } from '../package.js'
import type { Video } from '../video/video.js'
import { requireCompiledSize } from './compiled_checks.js'
import { type DecodedFrame, Job } from './job.js'
import type { StepPlan } from './plan.js'
import type { PreparedCall } from './preparation.js'
import { buildRequest } from './request.js'
import { describeSettings } from './settings.js'

/** Runs a call that is prepared: on the pipeline's thread, to its videos. */
export async function runJob(
  prepared: PreparedCall,
  { scheduler, program, guidance }: StepPlan,
  model: LoadedModel,
  adapters: Adapters,
  onFrame: ((frame: DecodedFrame) => void) | undefined,
): Promise<Video[]> {
  const { call, source } = prepared
  const { native, tokenizer, device, dtype, libtorch, compiledDenoiser } = model
  if (compiledDenoiser) requireCompiledSize(compiledDenoiser, call)
  const seeds = call.seeds ?? [chooseSeed()]
  const warnings = [...model.warnings, ...(source?.warnings ?? []), ...(prepared.warnings ?? [])]
  const { vaeScale, previewColours } = model.properties
  const context = { program, guidance, seeds, tokenizer, vaeScale, warnings }
  const request = buildRequest(prepared, context)
  const settings = describeSettings(call, scheduler, adapters)
  let threads: number | undefined // the fewest so far
  const chooseThreads = () => {
    if (!model.threads) return
    const now = model.threads.look()
    native.setThreads(now)
    threads = Math.min(now.threads, threads ?? now.threads)
  }

  const { videos, steps, strength, guidanceScale } = call
  const factsOf = (index: number) => ({
    ...{ torchreel: version, model: model.name, libtorch, device, dtype, threads, warnings },
    compiledDenoiser: compiledDenoiser && path.basename(compiledDenoiser.file),
    ...{ steps, strength, guidanceScale, scheduler: scheduler.name },
    seed: seeds[index] ?? seeds[0],
    settings: videos > seeds.length ? { ...settings, batch: { videos, index } } : settings,
  })
  const job = new Job(call, factsOf, previewColours, onFrame)
  try {
    chooseThreads()
    const listener = (event: NativeEvent) => {
      if (event.type === 'progress' && event.stage === 'denoise') chooseThreads()
      return job.take(event)
    }
    await native.generate(request, listener, call.signal)
    return await job.finish()
  } catch (error) {
    await job.discard(error)
    throw error
  }
}
