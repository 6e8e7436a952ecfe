import { checkCall, checkTogether } from './call/check_call.js'
import { invalidArgument } from './errors.js'
import { type OneCallOptions, splitOneCall } from './options/one_call.js'
import { checkPipelineOptions } from './options/pipeline.js'
import { TextToVideoPipeline } from './pipeline.js'
import type { Video } from './video/video.js'
import { checkOutputFile } from './video/write/recording.js'

/** Every model's default is more than one frame: enough to refuse a name for a single picture. */
const severalFrames = 2

/**
 * Makes one video from one prompt: checks everything, loads the checkpoint, makes the video and frees the memory. To make
 * several videos, keep a {@link TextToVideoPipeline}.
 *
 * @throws TorchreelError as `TextToVideoPipeline.fromPretrained` and `pipeline.generate` do
 */
export async function generate(prompt: string, options: OneCallOptions = {}): Promise<Video> {
  if (typeof prompt !== 'string') throw invalidArgument('prompt', 'a string', prompt)
  const { own, loading, making } = splitOneCall(options)
  const { model, loras = [], textualInversions = [] } = own
  const checked = checkPipelineOptions(loading)
  const call = checkCall(prompt, making, checked.limits)
  checkTogether(checked, call)
  call.signal?.throwIfAborted()
  const { output, video: source, fps, frames = source === undefined ? severalFrames : undefined } = call
  const outputWarnings = output && (await checkOutputFile(output, { fps, frameCount: frames }, call))

  const pipeline = await TextToVideoPipeline.load(model, checked, call)
  try {
    for (const { file, ...how } of loras) await pipeline.loadLora(file, how)
    for (const { file, ...how } of textualInversions) await pipeline.loadTextualInversion(file, how)
    const [made] = await pipeline.run(call, { outputWarnings })
    return made as Video
  } finally {
    await pipeline.dispose()
  }
}
