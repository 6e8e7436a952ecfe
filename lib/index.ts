export { TorchreelError, type TorchreelErrorCode, type TorchreelErrorDetails } from './errors.js'
export { type Ffmpeg, findFfmpeg } from './ffmpeg.js'
export { generate, type OneCallOptions } from './generate.js'
export { Generator } from './generator.js'
export { type Model, type NoiseSource, runProgram, type Sample } from './interpreter.js'
export type { GenerateOptions, PipelineOptions, Progress } from './options.js'
export { TextToVideoPipeline } from './pipeline.js'
export { type DenoisingProgram, ProgramBuilder, type Term } from './program.js'
export * from './schedulers/index.js'
export {
  checkSave,
  type ExportToVideoOptions,
  exportToVideo,
  type ImageFrame,
  type Latents,
  Video,
  type VideoContents,
  type VideoEncodeOptions,
  type VideoFacts,
  type VideoFormat,
  type VideoSaveOptions,
} from './video.js'
