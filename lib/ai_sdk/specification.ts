// The AI SDK's interface of a video model, version 3, as far as torchreel uses it. `ai` 6 and 7 take it. The types stand here,
// so that torchreel needs no package of the AI SDK.

/** A value that JSON can hold. */
export type JsonValue =
  | null
  | string
  | number
  | boolean
  | JsonValue[]
  | { [key: string]: JsonValue | undefined }

export type VideoWarning =
  | { type: 'unsupported'; feature: string; details?: string }
  | { type: 'other'; message: string }

/** An image or a video that a call starts from. */
export type VideoFile =
  | { type: 'file'; mediaType: string; data: string | Uint8Array }
  | { type: 'url'; url: string; mediaType?: string }

export type CallHeaders = Record<string, string | undefined>

export interface VideoCallOptions {
  prompt: string | undefined
  n: number
  aspectRatio: string | undefined
  /** WIDTHxHEIGHT */
  resolution: string | undefined
  /** Seconds. */
  duration: number | undefined
  fps: number | undefined
  seed: number | undefined
  image: VideoFile | undefined
  frameImages: { image: VideoFile; frameType: string }[] | undefined
  inputReferences: VideoFile[] | undefined
  generateAudio: boolean | undefined
  providerOptions: Record<string, { [name: string]: unknown }>
  abortSignal?: AbortSignal
  headers?: CallHeaders
}

export interface VideoResponse {
  timestamp: Date
  modelId: string
  headers: Record<string, string> | undefined
}

export type ProviderMetadata = Record<string, { [key: string]: JsonValue | undefined }>

export interface VideoResult {
  videos: { type: 'binary'; data: Uint8Array; mediaType: string }[]
  warnings: VideoWarning[]
  /** `torchreel.videos`: the facts of each video, such as its seed. */
  providerMetadata: ProviderMetadata
  response: VideoResponse
}

export interface VideoStart {
  /** For `doStatus`. */
  operation: JsonValue
  warnings: VideoWarning[]
  providerMetadata: ProviderMetadata
  response: VideoResponse
}

export interface VideoStatusOptions {
  operation: JsonValue
  abortSignal?: AbortSignal
  headers?: CallHeaders
}

export type VideoStatus =
  | { status: 'pending'; providerMetadata?: ProviderMetadata; response: VideoResponse }
  | ({ status: 'completed' } & VideoResult)
  | { status: 'error'; error: string; providerMetadata?: ProviderMetadata; response: VideoResponse }

/** A video model for `experimental_generateVideo`, `experimental_startVideo` and `experimental_getVideoStatus`. */
export interface VideoModel {
  readonly specificationVersion: 'v3'
  readonly provider: string
  readonly modelId: string
  readonly maxVideosPerCall: number
  doGenerate(options: VideoCallOptions): Promise<VideoResult>
  doStart(options: VideoCallOptions & { webhookUrl?: string }): Promise<VideoStart>
  doStatus(options: VideoStatusOptions): Promise<VideoStatus>
}

/**
 * Videos of one call. The AI SDK would give each of several calls the same seed, so one call makes them all, one after the
 * other, with the seeds after the first.
 */
export const maxVideosPerCall = 100
