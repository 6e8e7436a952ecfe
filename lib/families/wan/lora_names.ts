// How LoRA files name the layers of Wan's transformer.

/** Wan's own names, by the beginning or end of the names in the diffusers layout. */
const originalNames: readonly (readonly [name: RegExp, original: string])[] = [
  [/\.attn1\./, '.self_attn.'],
  [/\.attn2\./, '.cross_attn.'],
  [/\.to_([qkv])$/, '.$1'],
  [/\.to_out\.0$/, '.o'],
  [/\.ffn\.net\.0\.proj$/, '.ffn.0'],
  [/\.ffn\.net\.2$/, '.ffn.2'],
  [/^condition_embedder\.time_embedder\.linear_1$/, 'time_embedding.0'],
  [/^condition_embedder\.time_embedder\.linear_2$/, 'time_embedding.2'],
  [/^condition_embedder\.time_proj$/, 'time_projection.1'],
  [/^condition_embedder\.text_embedder\.linear_1$/, 'text_embedding.0'],
  [/^condition_embedder\.text_embedder\.linear_2$/, 'text_embedding.2'],
  [/^proj_out$/, 'head.head'],
]

/** The names of diffusers and PEFT, Wan's own with and without ComfyUI's prefix, and Kohya's. */
export function transformerLoraNames(layer: string): string[] {
  const original = originalNames.reduce((name, [pattern, to]) => name.replace(pattern, to), layer)
  return [
    `transformer.${layer}`,
    original,
    `diffusion_model.${original}`,
    `lora_unet_${original.replaceAll('.', '_')}`,
    `lora_unet_${layer.replaceAll('.', '_')}`,
  ]
}

/**
 * Changes that the reference ignores: those of norms, which files hold as zeros; those of the modulation (`diff_m`); and
 * those of the time projection's bias where its weight is not changed.
 */
export function ignoredLoraTensors(tensors: readonly string[]): string[] {
  const isTimeProjection = (name: string) => /(^|\.|_)time_projection[._]/.test(name)
  const projects = tensors.some((name) => isTimeProjection(name) && name.endsWith('.weight'))
  return tensors.filter(
    (name) =>
      (/\.diff(_b)?$/.test(name) && name.includes('norm')) ||
      name.endsWith('.diff_m') ||
      (isTimeProjection(name) && !projects),
  )
}
