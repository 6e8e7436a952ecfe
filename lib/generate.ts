import { invalidArgument } from './errors.js'
import { checkGenerateOptions, type GenerateOptions, type PipelineOptions } from './options.js'
import { TextToVideoPipeline } from './pipeline.js'
import type { Video } from './video/video.js'

/** {@link generate}'s options: the pipeline's and the video's in one. */
export interface OneCallOptions extends PipelineOptions, GenerateOptions {
  /** The checkpoint: a folder, or owner/name on Hugging Face. */
  model: string
}

/**
 * One prompt, one video, in one call: loads the checkpoint, makes the video and gives the memory back. Whoever makes
 * more than one video keeps a {@link TextToVideoPipeline}.
 *
 * @throws TorchreelError as `TextToVideoPipeline.fromPretrained` and `pipeline.generate` do
 */
export async function generate(prompt: string, options: OneCallOptions): Promise<Video> {
  if (typeof prompt !== 'string') throw invalidArgument('prompt', 'a string', prompt)
  if (typeof options?.model !== 'string') {
    throw invalidArgument('model', "a checkpoint's folder, or owner/name on Hugging Face", options?.model)
  }
  const { model, revision, cacheDir, token, localFilesOnly, variant, ...rest } = options
  const { device, dtype, offload, threads, libtorch, trustGraph, ...call } = rest
  const { signal, onProgress } = call
  // What no checkpoint could make right fails before one is loaded; the pipeline checks the rest.
  checkGenerateOptions(prompt, call, {
    vaeScale: 1,
    vaeSize: 512,
    size: 256,
    textLayers: 1000,
    textSize: null,
    latentChannels: null,
  })
  signal?.throwIfAborted()
  await using pipeline = await TextToVideoPipeline.fromPretrained(model, {
    ...{ revision, cacheDir, token, localFilesOnly, variant, signal, onProgress },
    ...{ device, dtype, offload, threads, libtorch, trustGraph },
  })
  return await pipeline.generate(prompt, call)
}
