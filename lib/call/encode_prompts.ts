import type { NativeEvent } from '../addon/interface.js'
import { abortSignal, integer } from '../checks/kinds.js'
import { checkOptions } from '../checks/options.js'
import type { ModelProperties } from '../families/family.js'
import type { LoadedModel } from '../loading.js'
import type { Limits } from '../options/limits.js'
import type { Tensor } from '../tensor.js'
import { checkPrompts } from './check_call.js'

/** How prompts are embedded. */
export interface EncodePromptOptions {
  /** Take the text encoder's output this many layers before the last. @defaultValue 0 */
  clipSkip?: number | undefined
  signal?: AbortSignal | undefined
}

/** Embeddings of prompts, (P, L, D). */
export interface PromptEmbeddings extends Tensor {
  /** Prompts that were cut short. */
  readonly warnings: readonly string[]
}

interface EncodeCall {
  readonly prompts: readonly string[]
  readonly clipSkip: number
  readonly signal: AbortSignal | undefined
}

export function checkEncodeCall(
  prompt: string | readonly string[],
  options: EncodePromptOptions,
  { textLayers }: ModelProperties,
  limits: Limits,
): EncodeCall {
  const table = {
    clipSkip: { kind: integer(0, textLayers - 1), default: 0 },
    signal: { kind: abortSignal },
  } as const
  return { prompts: checkPrompts(prompt, limits), ...checkOptions(options, table) }
}

/** Runs the text encoder alone. */
export async function encodePrompts(
  { prompts, clipSkip, signal }: EncodeCall,
  { native, tokenizer }: Pick<LoadedModel, 'native' | 'tokenizer'>,
): Promise<PromptEmbeddings> {
  const warnings: string[] = []
  let embeddings: Tensor | undefined
  const text = { ...tokenizer.encodeAll(prompts, 'prompt', warnings), clipSkip }
  const take = (event: NativeEvent) => {
    if (event.type === 'embeddings') embeddings = { data: event.data, shape: event.shape }
  }
  await native.encode(prompts.length, text, take, signal)
  return { ...(embeddings as Tensor), warnings }
}
