export type { Lora } from './adapters/adapters.js'
export type { LoraOptions, TextualInversionOptions } from './adapters/options.js'
export type { TextualInversion } from './adapters/textual_inversion.js'
export { Generator } from './addon/generator.js'
export type { Stage } from './addon/interface.js'
export type { NetworkMemory, PipelineMemory } from './addon/memory.js'
export type { DecodedFrame } from './call/job.js'
export type { Numbers } from './checks/checks.js'
export { TorchreelError, type TorchreelErrorCode, type TorchreelErrorDetails } from './errors.js'
export { generate, type OneCallOptions } from './generate.js'
export {
  cachedModel,
  type DownloadProgress,
  type DownloadStart,
  type HubOptions,
  type PulledModel,
  pullModel,
} from './hub/hub.js'
export type {
  FreeU,
  GenerateOptions,
  OnProgress,
  PipelineOptions,
  Preview,
  Progress,
} from './options/call.js'
export type { Limits } from './options/limits.js'
export { type EncodePromptOptions, type PromptEmbeddings, TextToVideoPipeline } from './pipeline.js'
export * from './schedulers/index.js'
export { type Model, type NoiseSource, runProgram, type Sample } from './schedulers/interpreter.js'
export { type DenoisingProgram, ProgramBuilder, type Term } from './schedulers/program.js'
export { type ExportToVideoOptions, exportToVideo, type ImageFrame } from './video/export_to_video.js'
export { type Ffmpeg, type FfmpegSource, findFfmpeg } from './video/ffmpeg.js'
export type { RgbImage } from './video/read/resize.js'
export type { VideoInput } from './video/read/source_video.js'
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
export type { EncodePlan } from './video/write/encode.js'
export type { PixelFormat, VideoCodec } from './video/write/options.js'
export type { Output } from './video/write/recording.js'
