import {
  type LoraOptions,
  loraList,
  type TextualInversionOptions,
  textualInversionList,
} from './adapters/options.js'
import { invalidArgument } from './errors.js'
import { modelscope } from './families/modelscope/family.js'
import {
  checkGenerateOptions,
  checkPipelineOptions,
  type GenerateOptions,
  type PipelineOptions,
} from './options/call.js'
import { TextToVideoPipeline } from './pipeline.js'
import type { Video } from './video/video.js'
import { checkRecording } from './video/write/recording.js'

/** {@link generate}'s options: the pipeline's and the video's in one. */
export interface OneCallOptions extends PipelineOptions, GenerateOptions {
  /**
   * The checkpoint: a folder, owner/name on Hugging Face, or `shapes`, the small one in this package.
   * @defaultValue text-to-video-ms-1.7b if the cache holds it, else `shapes`; the video's `model` and `warnings` say which
   */
  model?: string | URL | undefined
  /** LoRA files to load, each alone or with its options. @defaultValue none */
  loras?: readonly (string | URL | (LoraOptions & { file: string | URL }))[] | undefined
  /** Files of textual inversions to load, each alone or with its options. @defaultValue none */
  textualInversions?:
    | readonly (string | URL | (TextualInversionOptions & { file: string | URL }))[]
    | undefined
}

/**
 * One prompt, one video, in one call: loads the checkpoint, makes the video and gives the memory back. Whoever makes
 * more than one video keeps a {@link TextToVideoPipeline}.
 *
 * @throws TorchreelError as `TextToVideoPipeline.fromPretrained` and `pipeline.generate` do
 */
export async function generate(prompt: string, options: OneCallOptions = {}): Promise<Video> {
  if (typeof prompt !== 'string') throw invalidArgument('prompt', 'a string', prompt)
  const { model, revision, cacheDir, token, localFilesOnly, variant, ...rest } = options
  const { device, dtype, offload, captureGraph, compiledDenoiser, threads, libtorch, ...more } = rest
  const { trustGraph, verify, limits, ...made } = more
  const { loras, textualInversions, ...call } = made
  const { signal, onProgress } = call
  // What no checkpoint could make right fails before one is loaded; the pipeline checks the rest.
  const checked = checkGenerateOptions(
    prompt,
    call,
    {
      defaults: modelscope.defaults,
      vaeScale: 1,
      sizeMultiple: 1,
      frameMultiple: 1,
      tileSize: 512,
      size: { height: 256, width: 256 },
      textLayers: 1000,
      textSize: null,
      latentChannels: null,
    },
    checkPipelineOptions({ limits }).limits,
  )
  const checkedLoras = loraList('loras', loras ?? [])
  const checkedInversions = textualInversionList('textualInversions', textualInversions ?? [])
  signal?.throwIfAborted()
  const { fps, frames } = checked.video === undefined ? checked : checked.wishes
  await checkRecording(checked, { fps, frameCount: frames })
  const pipeline = await TextToVideoPipeline.fromPretrained(model, {
    revision,
    cacheDir,
    token,
    localFilesOnly,
    variant,
    signal,
    onProgress,
    device,
    dtype,
    offload,
    captureGraph,
    compiledDenoiser,
    threads,
    libtorch,
    trustGraph,
    verify,
    limits,
  })
  try {
    for (const { file, ...options } of checkedLoras) await pipeline.loadLora(file, options)
    for (const { file, ...options } of checkedInversions) await pipeline.loadTextualInversion(file, options)
    return await pipeline.generate(prompt, call)
  } finally {
    await pipeline.dispose()
  }
}
