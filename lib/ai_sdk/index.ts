// `torchreel/ai-sdk`: torchreel's models for the Vercel AI SDK.
import { LocalModel, type LocalModelOptions } from './local_model.js'
import { ServerClient, type ServerOptions } from './server_client.js'
import { ServerModel } from './server_model.js'
import type { VideoModel } from './specification.js'

export { ServerCallError } from './server_error.js'
export type * from './specification.js'
export type { LocalModel, LocalModelOptions, ServerOptions }

/** A function that gives a model by its name, under the names that the AI SDK's registries look for, too. */
export type TorchreelProvider<Create> = Create & { readonly video: Create; readonly videoModel: Create }

function provider<Create extends (modelId: string) => VideoModel>(create: Create): TorchreelProvider<Create> {
  return Object.assign(((...parameters: [string]) => create(...parameters)) as Create, {
    video: create,
    videoModel: create,
  })
}

/**
 * A model that runs in this process: a folder, owner/name on Hugging Face, or `shapes`. The first call loads it; it stays in
 * memory until `dispose()`.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for wrong options
 */
export const torchreel = provider(
  (modelId: string, options: LocalModelOptions = {}) => new LocalModel(modelId, options),
)

/**
 * The models of a torchreel server, by their names there.
 *
 * @throws TorchreelError `ERR_INVALID_ARGUMENT` for wrong options
 */
export function createTorchreel(options: ServerOptions = {}) {
  const client = new ServerClient(options)
  return provider((modelId: string): VideoModel => new ServerModel(modelId, client))
}
