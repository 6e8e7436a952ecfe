export type { Lora } from './adapters/adapters.js'
export type { LoraOptions, TextualInversionOptions } from './adapters/options.js'
export type { TextualInversion } from './adapters/textual_inversion.js'
export { TorchreelError, type TorchreelErrorCode, type TorchreelErrorDetails } from './errors.js'
export { generate, type OneCallOptions } from './generate.js'
export { Generator } from './generator.js'
export {
  cachedModel,
  type DownloadProgress,
  type DownloadStart,
  type HubOptions,
  type PulledModel,
  pullModel,
} from './hub/hub.js'
export { type Model, type NoiseSource, runProgram, type Sample } from './interpreter.js'
export type { DecodedFrame } from './job.js'
export type { Limits } from './limits.js'
export type { NetworkMemory, PipelineMemory } from './memory.js'
export type { Stage } from './native.js'
export type { Numbers } from './option_checks.js'
export type { FreeU, GenerateOptions, OnProgress, PipelineOptions, Preview, Progress } from './options.js'
export { type EncodePromptOptions, type PromptEmbeddings, TextToVideoPipeline } from './pipeline.js'
export { type DenoisingProgram, ProgramBuilder, type Term } from './program.js'
export * from './schedulers/index.js'
export type { EncodePlan } from './video/encode.js'
export type { PixelFormat, VideoCodec } from './video/encode_options.js'
export { type ExportToVideoOptions, exportToVideo, type ImageFrame } from './video/export_to_video.js'
export { type Ffmpeg, type FfmpegSource, findFfmpeg } from './video/ffmpeg.js'
export type { Output } from './video/recording.js'
export type { RgbImage } from './video/resize.js'
export type { VideoInput } from './video/source_video.js'
export {
  type ContactSheetOptions,
  checkSave,
  Video,
  type VideoContents,
  type VideoEncodeOptions,
  type VideoFacts,
  type VideoFormat,
  type VideoSaveOptions,
  type VideoSettings,
} from './video/video.js'
