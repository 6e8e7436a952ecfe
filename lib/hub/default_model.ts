import { cachedModel, embeddedModel, type HubOptions } from './hub.js'

/** The published model, by the name it was published under and the one it moved to. */
const published = ['damo-vilab/text-to-video-ms-1.7b', 'ali-vilab/text-to-video-ms-1.7b'] as const

/**
 * The model of a call that names none: the published one if the cache holds it whole, else the small one in this package.
 * Nothing is downloaded.
 *
 * @returns its name, and what to tell the caller
 */
export async function defaultModel(
  options: Pick<HubOptions, 'revision' | 'variant' | 'cacheDir'>,
): Promise<{ model: string; notice: string }> {
  for (const model of published) {
    if (await cachedModel(model, options))
      return { model, notice: `no model was named: ${model} is in the cache` }
  }
  return {
    model: embeddedModel,
    notice:
      `no model was named, and ${published[0]} is not in the cache: shapes, the small model in this package, draws one ` +
      'circle, square, triangle or star and knows no other things',
  }
}
