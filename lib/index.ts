export { TorchreelError, type TorchreelErrorCode, type TorchreelErrorDetails } from './errors.js'
export { generate, type OneCallOptions } from './generate.js'
export { Generator } from './generator.js'
export { type Model, type NoiseSource, runProgram, type Sample } from './interpreter.js'
export type { GenerateOptions, PipelineOptions, Progress } from './options.js'
export { TextToVideoPipeline } from './pipeline.js'
export { type DenoisingProgram, ProgramBuilder, type Term } from './program.js'
export * from './schedulers/index.js'
export type { PixelFormat, VideoCodec } from './video/encode_options.js'
export { type ExportToVideoOptions, exportToVideo, type ImageFrame } from './video/export_to_video.js'
export { type Ffmpeg, findFfmpeg } from './video/ffmpeg.js'
export {
  type ContactSheetOptions,
  checkSave,
  type Latents,
  Video,
  type VideoContents,
  type VideoEncodeOptions,
  type VideoFacts,
  type VideoFormat,
  type VideoSaveOptions,
} from './video/video.js'
