import { show, TorchreelError } from '../errors.js'
import type { Config, Family } from './family.js'
import { modelscope } from './modelscope/family.js'
import { wan } from './wan/family.js'

/** All families of models that torchreel runs. */
export const families: readonly Family[] = [modelscope, wan]

/** The family of a checkpoint, by the content of its model_index.json; undefined: none that torchreel runs. */
export function findFamily({ _class_name: name }: Config): Family | undefined {
  return families.find(({ pipelineClasses }) => pipelineClasses.includes(name as string))
}

/**
 * The family of a checkpoint, by the content of its model_index.json.
 *
 * @param model names the checkpoint in the message
 * @throws TorchreelError `ERR_MODEL_INCOMPATIBLE` if torchreel runs no models of this class
 */
export function requireFamily(model: string, index: Config): Family {
  const family = findFamily(index)
  const refusal = family?.refuse?.(index)
  if (family && refusal === undefined) return family
  const { _class_name: name } = index
  const what = typeof name === 'string' ? `is a ${name.slice(0, 60)}` : `has the _class_name ${show(name)}`
  const classes = families.flatMap(({ pipelineClasses }) => pipelineClasses)
  const models = families.map(({ publishedModels }) => publishedModels[0])
  throw new TorchreelError(
    'ERR_MODEL_INCOMPATIBLE',
    `${model} ${refusal ?? `${what}; torchreel runs ${classes.join(', ')}, such as ${models.join(' and ')}`}`,
    {
      expected: classes.join(' or '),
      received: name,
    },
  )
}
