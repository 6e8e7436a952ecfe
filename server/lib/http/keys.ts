import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { appendFile, open, readFile } from 'node:fs/promises'

/** Who asks. */
export interface Owner {
  readonly name: string
  /** Sees the jobs of all. */
  readonly isAdmin: boolean
}

interface Key extends Owner {
  /** sha256. */
  readonly hash: Buffer
}

const line = /^sha256:([0-9a-f]{64}) (\S+)( admin)?$/
const sessionLasts = 30 * 24 * 3600

/** The keys of a server, of which it knows sha256 only, and the sessions of its page. */
export class Keys {
  readonly #keys: readonly Key[]
  readonly #secret: Buffer

  private constructor(keys: readonly Key[], secret: Buffer) {
    this.#keys = keys
    this.#secret = secret
  }

  /**
   * Reads a file of keys, as `addKey` writes it.
   *
   * @param secretFile signs sessions; made if it is not there
   * @throws Error that names a line that is none
   */
  static async read(file: string, secretFile: string): Promise<Keys> {
    const lines = (await readFile(file, 'utf8')).split('\n').map((text) => text.trim())
    const keys = lines.flatMap((text, index) => {
      if (text === '' || text.startsWith('#')) return []
      const [, hash, name, admin] = line.exec(text) ?? []
      if (hash === undefined || name === undefined) throw new Error(`${file}: line ${index + 1} is not a key`)
      return [{ name, hash: Buffer.from(hash, 'hex'), isAdmin: admin !== undefined }]
    })
    if (keys.length === 0) throw new Error(`${file} has no keys; torchreel-server --new-key NAME makes one`)
    return new Keys(keys, await readSecret(secretFile))
  }

  /** The key as it is kept; undefined: it is none. Takes as long for a wrong key as for a right one. */
  find(key: string): Key | undefined {
    const hash = sha256(key)
    let found: Key | undefined
    for (const one of this.#keys) if (timingSafeEqual(one.hash, hash)) found = one
    return found
  }

  /** The value of a cookie that stands for a key. */
  startSession(key: Key): string {
    const name64 = Buffer.from(key.name).toString('base64url')
    const body = `${name64}.${Math.floor(Date.now() / 1000) + sessionLasts}`
    return `${body}.${this.#sign(body, key)}`
  }

  findSession(cookie: string): Owner | undefined {
    const [name64 = '', expires = '', signature = ''] = cookie.split('.')
    if (!(Number(expires) * 1000 > Date.now())) return undefined
    const name = Buffer.from(name64, 'base64url').toString()
    const given = Buffer.from(signature)
    return this.#keys.find((key) => {
      if (key.name !== name) return false
      const expected = Buffer.from(this.#sign(`${name64}.${expires}`, key))
      return given.length === expected.length && timingSafeEqual(given, expected)
    })
  }

  /** By the key itself: one that is taken out of the file ends the sessions that began with it, and no others. */
  #sign(body: string, { hash }: Key): string {
    return createHmac('sha256', this.#secret)
      .update(`${body}\n${hash.toString('hex')}`)
      .digest('base64url')
  }
}

/** Adds a key to the file, and gives it: it is not kept. */
export async function addKey(file: string, name: string, isAdmin: boolean): Promise<string> {
  if (!/^[\w.@-]{1,64}$/.test(name))
    throw new Error(`a key's name must be of letters, digits, '.', '-', '_' and '@'`)
  const key = `tr-${randomBytes(24).toString('base64url')}`
  const text = `sha256:${sha256(key).toString('hex')} ${name}${isAdmin ? ' admin' : ''}\n`
  await appendFile(file, text, { mode: 0o600 })
  return key
}

async function readSecret(file: string): Promise<Buffer> {
  try {
    const handle = await open(file, 'wx', 0o600)
    await handle.writeFile(randomBytes(32)).finally(() => handle.close())
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  return readFile(file)
}

const sha256 = (text: string) => createHash('sha256').update(text).digest()
