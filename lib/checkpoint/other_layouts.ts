import path from 'node:path'

const wanted = 'torchreel reads a folder in the diffusers layout, with model_index.json'

/**
 * What a file is that was given as a model, and what to use instead; the end of a sentence that begins with its name.
 * Undefined: no model at all.
 */
export function describeModelFile(file: string): string | undefined {
  const kind = path.extname(file).toLowerCase()
  if (kind === '.gguf') {
    return `is a GGUF file: quantized weights, which torchreel does not read. ${wanted}: use the model's own repository`
  }
  if (kind === '.safetensors') {
    return (
      `is a checkpoint in a single file. ${wanted}. Use the model's repository whose name ends in "-Diffusers", or convert ` +
      'the file once, in Python, with from_single_file and save_pretrained'
    )
  }
  if (['.bin', '.ckpt', '.pt', '.pth'].includes(kind)) {
    return `is a pickle: a program, which torchreel does not run. ${wanted} and safetensors`
  }
  return undefined
}

/**
 * What a folder or repository without model_index.json is, and what to use instead; as {@link describeModelFile}. Undefined:
 * no model at all.
 */
export function describeModelFolder(names: readonly string[]): string | undefined {
  const file = (pattern: RegExp) => names.find((name) => pattern.test(name))
  if (file(/^(Wan2.*_VAE|models_t5_.*)\.pth$/)) {
    return `has Wan's original layout. ${wanted}: use the repository of the same name that ends in "-Diffusers"`
  }
  const weights = file(/\.gguf$/i) ?? file(/^[^/]*\.(safetensors|ckpt|pth)$/i)
  if (weights) return `has no model_index.json, only ${weights}, which ${describeModelFile(weights)}`
  return undefined
}
