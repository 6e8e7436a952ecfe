/** P prompts as one text encoder reads them. */
export interface TokenRows {
  /** (P, L) row-major: a prompt's tokens, the closing token, and padding. */
  readonly tokens: Int32Array
  /** (P): how many of a row's L the text encoder reads; L where it reads the padding too. */
  readonly lengths: Int32Array
}

export interface Tokenizer {
  /**
   * Token ids of several prompts.
   *
   * @param name the option that the prompts came in, for messages
   * @param warnings gets a line for each prompt that was cut short
   */
  encodeAll(prompts: readonly string[], name: string, warnings: string[]): TokenRows
}

/** A word outside the vocabulary, and the ids that stand for it. */
export interface AddedToken {
  readonly content: string
  readonly ids: readonly number[]
}

/** A tokenizer that words can be added to, as textual inversions need it. */
export interface ExtensibleTokenizer extends Tokenizer {
  /** The number of ids without added tokens. */
  readonly vocabularySize: number
  /** Whether this is a token of the vocabulary or an added one. */
  knows(token: string): boolean
  /** Sets the added tokens; those that were set before are gone. The longest that fits stands for its ids in a prompt. */
  setAddedTokens(tokens: readonly AddedToken[]): void
}

export function isExtensible(tokenizer: Tokenizer): tokenizer is ExtensibleTokenizer {
  return 'setAddedTokens' in tokenizer
}
