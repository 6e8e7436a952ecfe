import { families } from '../families/families.js'
import { cachedModel, embeddedModel, type HubOptions } from './hub.js'

/**
 * The model of a call that names none: a family's published model if the cache holds it completely, else the small one in
 * this package. Downloads nothing.
 *
 * @returns its name, and a notice for the caller
 */
export async function defaultModel(
  options: Pick<HubOptions, 'revision' | 'variant' | 'cacheDir'>,
): Promise<{ model: string; notice: string }> {
  const published = families.flatMap(({ publishedModels }) => publishedModels)
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
