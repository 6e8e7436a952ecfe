import { checkValue, integer, number } from '../checks/kinds.js'
import { checkOptions } from '../checks/options.js'
import { conflict, invalidArgument } from '../errors.js'
import { callOptions, type GenerateOptions } from '../options/call.js'
import {
  maxVideosPerCall,
  type VideoCallOptions,
  type VideoFile,
  type VideoWarning,
} from './specification.js'

/** The options of `providerOptions.torchreel`: those that the AI SDK has no name for. */
const settingNames = [
  'frames',
  'steps',
  'guidanceScale',
  'negativePrompt',
  'scheduler',
  'strength',
  'eta',
  'clipSkip',
  'freeU',
  'featureCache',
  'guidanceInterval',
  'vaeTiling',
  'window',
] as const satisfies readonly (keyof typeof callOptions)[]

const settingOptions = Object.fromEntries(settingNames.map((name) => [name, callOptions[name]]))

/** Options of torchreel that a call sets. */
export type CallSettings = Pick<
  GenerateOptions,
  (typeof settingNames)[number] | 'width' | 'height' | 'fps' | 'seed'
>

/** A call of the AI SDK in torchreel's terms, checked. */
export interface ReadCall {
  readonly prompt: string
  /** How many videos. */
  readonly count: number
  readonly settings: CallSettings
  /** Seconds; the model's frame rate makes frames of them. */
  readonly duration: number | undefined
  /** The bytes of a video to start from. */
  readonly source: Uint8Array | undefined
  readonly warnings: VideoWarning[]
}

/**
 * Reads a call, and says which of its wishes cannot be met.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT`
 */
export function readCall(options: VideoCallOptions): ReadCall {
  const { prompt, n, duration, resolution, fps, seed } = options
  if (typeof prompt !== 'string') throw invalidArgument('prompt', 'a string', prompt)
  const given = options.providerOptions.torchreel ?? {}
  checkOptions(given, settingOptions, 'providerOptions.torchreel.')
  if (duration !== undefined && given.frames !== undefined)
    throw conflict('providerOptions.torchreel.frames', 'duration', given.frames)
  const settings = Object.fromEntries(
    Object.entries({ ...given, ...readResolution(resolution), fps, seed }).filter(
      ([, value]) => value !== undefined,
    ),
  ) as CallSettings
  checkOptions(settings, callOptions)
  const warnings = unsupportedWishes(options)
  return {
    prompt,
    count: checkValue(integer(1, maxVideosPerCall), 'n', n),
    settings,
    duration: duration === undefined ? undefined : checkValue(number(0.001, 3600), 'duration', duration),
    source: readSource(options.inputReferences ?? [], warnings),
    warnings,
  }
}

/** The settings of one of several videos: each has its own seed. */
export function settingsOf({ settings }: ReadCall, index: number): CallSettings {
  const { seed } = settings
  return typeof seed === 'number' ? { ...settings, seed: seed + index } : settings
}

function readResolution(resolution: string | undefined): { width?: number; height?: number } {
  if (resolution === undefined) return {}
  const [, width, height] = /^(\d{1,5})x(\d{1,5})$/.exec(resolution) ?? []
  if (width === undefined || height === undefined)
    throw invalidArgument('resolution', 'WIDTHxHEIGHT in pixels', resolution)
  return { width: Number(width), height: Number(height) }
}

function unsupportedWishes({ aspectRatio, image, frameImages, generateAudio }: VideoCallOptions) {
  const warnings: VideoWarning[] = []
  const unsupported = (feature: string, details: string) =>
    warnings.push({ type: 'unsupported', feature, details })
  if (aspectRatio !== undefined) unsupported('aspectRatio', 'set resolution instead')
  const noImages = 'the models make videos of a prompt, or of a prompt and a video'
  if (frameImages?.length) unsupported('frameImages', noImages)
  else if (image !== undefined) unsupported('image', noImages)
  if (generateAudio) unsupported('generateAudio', 'the videos have no sound')
  return warnings
}

/** The video among the references. A reference that is only a URL is refused, because nothing is downloaded for a call. */
function readSource(references: readonly VideoFile[], warnings: VideoWarning[]): Uint8Array | undefined {
  const url = references.find((reference) => reference.type === 'url')
  if (url) throw invalidArgument('inputReferences', 'the bytes of a video, not a URL', url.url)
  const files = references.filter((reference) => reference.type === 'file')
  const [source, second] = files.filter(({ mediaType }) => mediaType.startsWith('video/'))
  if (files.some(({ mediaType }) => !mediaType.startsWith('video/')))
    warnings.push({ type: 'unsupported', feature: 'inputReferences', details: 'images are not used' })
  if (second)
    warnings.push({
      type: 'unsupported',
      feature: 'inputReferences',
      details: 'only the first video is used',
    })
  if (!source) return undefined
  return typeof source.data === 'string' ? Buffer.from(source.data, 'base64') : source.data
}
