/** Prompts to token ids, as one text encoder reads them. */
export interface Tokenizer {
  /**
   * Token ids of several prompts, (P, L) row-major.
   *
   * @param name the option that the prompts came in, for messages
   * @param warnings gets a line for each prompt that was cut short
   */
  encodeAll(prompts: readonly string[], name: string, warnings: string[]): Int32Array
}
