import { decodeHTML } from 'entities/decode'

/**
 * A prompt as Wan's pipeline hands it to the tokenizer: HTML entities are decoded twice, since text from the web is often
 * encoded twice; each run of white space becomes one blank; the ends are stripped.
 *
 * The reference first repairs text that was decoded with the wrong encoding, if the Python package ftfy is installed. This
 * function does not.
 */
export function cleanPrompt(prompt: string): string {
  return decodeEntities(decodeEntities(prompt))
    .replace(/\p{White_Space}+/gu, ' ')
    .replace(strippedEnds, '')
}

/** Python's `str.strip` also strips the separators U+001C to U+001F, which are not white space in Unicode. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is these characters that are stripped
const strippedEnds = /^[ \x1c-\x1f]+|(?<![ \x1c-\x1f])[ \x1c-\x1f]+$/g

/** Decodes HTML's character references as Python's `html.unescape` does. */
function decodeEntities(text: string): string {
  return text.replace(references, (reference, decimal?: string, hexadecimal?: string) => {
    if (decimal !== undefined) return referredCharacter(Number.parseInt(decimal, 10))
    if (hexadecimal !== undefined) return referredCharacter(Number.parseInt(hexadecimal, 16))
    return decodeHTML(reference)
  })
}

const references = /&(?:#([0-9]+);?|#[xX]([0-9a-fA-F]+);?|[^\t\n\f <&#;]{1,32};?)/gu

/** The character of a numeric reference: HTML's, but none for control characters and for codes that are no characters. */
function referredCharacter(code: number): string {
  if (code > 0x10ffff) return '\ufffd'
  const character = decodeHTML(`&#${code};`)
  return noCharacters.test(character) ? '' : character
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: it is these characters that are dropped
const noCharacters = /[\x01-\x08\x0b\x0e-\x1f\x7f\p{Noncharacter_Code_Point}]/u
