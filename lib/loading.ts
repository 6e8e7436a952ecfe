import path from 'node:path'
import { resolveDevice } from './addon/device.js'
import { loadNative } from './addon/load.js'
import { NativePipeline } from './addon/native_pipeline.js'
import { type Checkpoint, readCheckpoint } from './checkpoint/checkpoint.js'
import {
  type CompiledDenoiser,
  nativeCompiledDenoiser,
  readCompiledDenoiser,
  requireCompiledFor,
} from './checkpoint/compiled_denoiser.js'
import { readFamily } from './checkpoint/selection.js'
import { TorchreelError } from './errors.js'
import type { Family, ModelProperties } from './families/family.js'
import { refuseForFamily } from './families/refused_options.js'
import { verifyFiles } from './files/hashes.js'
import { defaultModel } from './hub/default_model.js'
import { type HubOptions, localModel, modelName, resolveModel } from './hub/hub.js'
import { chooseThreads, Threads } from './machine/threads.js'
import { callOptions } from './options/call.js'
import { type CheckedPipelineOptions, pipelineOptions } from './options/pipeline.js'
import { ProgressClock } from './progress.js'
import type { Scheduler } from './schedulers/index.js'
import type { Tokenizer } from './text/tokenizer.js'

/** A model in memory, and all that its calls need. */
export interface LoadedModel {
  /** As it was asked for: owner/name, or the name of its folder. */
  readonly name: string
  readonly properties: ModelProperties
  readonly checkpoint: Checkpoint
  readonly tokenizer: Tokenizer
  readonly native: NativePipeline
  readonly scheduler: Scheduler
  readonly compiledDenoiser: Pick<CompiledDenoiser, 'file' | 'made'> | undefined
  /** 'cpu', 'cuda:0' … */
  readonly device: string
  readonly dtype: 'float16' | 'bfloat16' | 'float32'
  /** Of an operation on the CPU; undefined: the networks run elsewhere. */
  readonly threads: Threads | undefined
  /** The version of libtorch. */
  readonly libtorch: string
  /** What was chosen for the caller. */
  readonly warnings: readonly string[]
}

/**
 * Loads a checkpoint: finds or downloads its folder, reads its configs, and opens its networks on the device.
 *
 * @param name undefined: the default model
 * @param call the options of the only call, if there is only one: those that the family refuses are refused first
 */
export async function loadModel(
  name: string | URL | undefined,
  options: CheckedPipelineOptions,
  call: object = {},
): Promise<LoadedModel> {
  const { offload, captureGraph, limits, signal } = options
  const named = name === undefined ? undefined : modelName(name)
  const compiled =
    options.compiledDenoiser === undefined ? undefined : await readCompiledDenoiser(options.compiledDenoiser)
  const libtorch = loadNative(options.libtorch).libtorch.version
  const device = resolveDevice(options.device)
  if (captureGraph && device === 'cpu') {
    throw new TorchreelError('ERR_DEVICE_UNAVAILABLE', `captureGraph needs a CUDA device, got ${device}`, {
      parameter: 'captureGraph',
      device,
    })
  }
  const checkFamily = (family: Family) => {
    refuseForFamily(options, pipelineOptions, family)
    refuseForFamily(call, callOptions, family)
  }
  // A wrong name is refused before the model is downloaded.
  if (options.textEncoder !== undefined) await localModel(options.textEncoder)
  const { model, folder, notices } = await findFolder(named, options, checkFamily)
  const textEncoder = await findTextEncoder(folder, options, notices)
  const checkpoint = await readCheckpoint(folder, { ...options, textEncoder })
  const { properties, files: networks, scheduler } = checkpoint
  const { family, latentChannels } = properties
  checkFamily(family)
  const tokenizer = await family.loadTokenizer(checkpoint.folder, properties)
  const automatic = device === 'cpu' ? 'float32' : family.gpuDtype
  const dtype = options.dtype === 'auto' ? automatic : options.dtype
  if (compiled) {
    const { denoiserGraph: graph } = checkpoint
    requireCompiledFor(compiled, { graph, vaeScale: properties.vaeScale, libtorch, device, dtype })
  }
  if (options.verify) {
    const { textEncoder, denoiser, vae } = networks
    await verifyFiles(checkpoint.textEncoderFolder, textEncoder.weights, signal)
    await verifyFiles(checkpoint.folder, [...denoiser.weights, ...vae.weights], signal)
  }
  const compiledDenoiser = compiled && nativeCompiledDenoiser(compiled, latentChannels)
  const maxHeader = limits.headerBytes
  const threads = new Threads(
    chooseThreads(options.threads),
    dtype === 'float32' && family.sameWithAnyThreads,
  )
  const where = { device, dtype, offload, threads: threads.look().threads, captureGraph, maxHeader }
  const latents = { latentScale: [...properties.latentScale], latentMean: [...properties.latentMean] }
  const native = await NativePipeline.open(
    { family: family.name, networks, compiledDenoiser, ...latents, ...where },
    signal,
  )
  return {
    name: path.resolve(model) === folder ? path.basename(folder) : model,
    properties,
    checkpoint,
    tokenizer,
    native,
    scheduler,
    compiledDenoiser: compiled && { file: compiled.file, made: compiled.made },
    device,
    dtype,
    threads: device === 'cpu' ? threads : undefined,
    libtorch,
    warnings: [...notices, ...checkpoint.warnings, ...native.warnings],
  }
}

/** The folder of a model, downloaded if it has to be, and what to tell the caller about it. */
async function findFolder(
  name: string | undefined,
  options: CheckedPipelineOptions,
  checkFamily: (family: Family) => void,
): Promise<{ model: string; folder: string; notices: string[] }> {
  const { revision, variant } = options
  const { model, notice } =
    name === undefined ? await defaultModel(options) : { model: name, notice: undefined }
  const notices = notice === undefined ? [] : [notice]
  const part = options.textEncoder === undefined ? undefined : ({ without: 'textEncoder' } as const)
  const folder = await resolve(model, { revision, variant, part, checkFamily }, options, notices)
  return { model, folder, notices }
}

/** The folder of the model whose text encoder the caller wants, or undefined. */
async function findTextEncoder(
  folder: string,
  options: CheckedPipelineOptions,
  notices: string[],
): Promise<string | undefined> {
  const { textEncoder } = options
  if (textEncoder === undefined) return undefined
  return resolve(textEncoder, { part: { textEncoderOf: await readFamily(folder, folder) } }, options, notices)
}

/** Finds or downloads a model, and adds its licence to the notices where it is downloaded. */
async function resolve(
  model: string,
  what: Pick<HubOptions, 'revision' | 'variant' | 'part' | 'checkFamily'>,
  { cacheDir, token, localFilesOnly, signal, onProgress }: CheckedPipelineOptions,
  notices: string[],
): Promise<string> {
  const clock = new ProgressClock(onProgress)
  const stop = new AbortController() // when onProgress throws: its error is the reason
  return await resolveModel(model, {
    ...{ ...what, cacheDir, token, localFilesOnly },
    signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal,
    onDownload: ({ license }) => {
      const terms = license ?? 'as its model card says: it names no licence'
      notices.push(`the weights of ${model} are licensed ${terms}`)
    },
    onProgress: ({ bytes, totalBytes }) => {
      clock.tell('download', bytes, totalBytes).catch((error) => stop.abort(error))
    },
  })
}
