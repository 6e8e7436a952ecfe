/** A name as a POSIX shell reads it back: as it is where that is safe, else in single quotes. */
export function shellWord(name: string): string {
  return /^[\w@%+=:,./-]+$/.test(name) && !name.startsWith('-') ? name : `'${name.replaceAll("'", "'\\''")}'`
}
